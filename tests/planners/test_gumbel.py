"""Gumbel's root selection: a golden tree, the schedule of halving, and that it improves any policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError
from dreamenv.planners import MCTS, Gumbel, search
from dreamenv.planners.gumbel import gumbel_numbers, halving
from dreamenv.planners.tree import Outcome
from tests.agents.small_dreams import CHOICE, StairsMemory, small_dream
from tests.planners.problems import state_at
from tests.planners.test_tree import Known

UP = int(CHOICE.start) + 2


class Bandits:
    """B bandits of n arms, whose returns are known; the task ends behind each."""

    def __init__(self, prior: NDArray[np.float64], returns: NDArray[np.float64]) -> None:
        self.rows, self.actions = prior.shape
        self._prior, self.returns = prior, returns

    def root(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return (self._prior * self.returns).sum(1), self._prior

    def open(self, node: int, parent: Any, action: Any, depth: Any, wanted: Any) -> Outcome:
        nothing = np.zeros(self.rows)
        return Outcome(self.returns[np.arange(self.rows), action], nothing, nothing, self._prior)


@pytest.mark.parametrize(
    ("considered", "simulations", "expected"),
    [
        # Four actions once, the better two once more
        (4, 8, [0, 0, 0, 0, 1, 1, 2, 2]),
        # Each of two phases has 8 of 16 simulations
        (4, 16, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]),
        (2, 5, [0, 0, 1, 1, 2]),
        (4, 3, [0, 0, 0]),
        (1, 4, [0, 1, 2, 3]),
        (3, 6, [0, 0, 0, 1, 1, 2]),
    ],
)
def test_halving(considered: int, simulations: int, expected: list[int]) -> None:
    assert list(halving(considered, simulations)) == expected


def test_a_golden_tree() -> None:
    """Three equal chances, rewards 0, 1, 3, Gumbel numbers 1, 0, -9, nodes worth 0, one action deep, σ(Q) = 5.1 Q.

    Two actions are considered: 0 (g = 1) and 1 (g = 0), never 2. Each is tried once; returns range over 1. Then again:
    they are the last two. Both were tried twice: 1 + 5.2 · 0 against 0 + 5.2 · 1, so action 1 is chosen.
    """
    model = Known([0.0, 1.0, 3.0])
    selection = Gumbel(np.array([[1.0, 0.0, -9.0]]), simulations=4, considered=2)
    tree = search(model, simulations=4, depth=1, selection=selection)
    assert [action for _, _, (action,), _, _ in model.opened] == [0, 1, 1, 0]
    assert tree.root_visits.tolist() == [[2, 2, 0]]
    assert selection.best(tree).tolist() == [1]
    # The untried action is worth (0 + 4 · (0 + 1) / 2) / 5 = 0.4: own value, and the mean of what was tried
    chances = np.exp(5.2 * np.array([0.0, 1.0, 0.4]))
    np.testing.assert_allclose(selection.policy(tree)[0], chances / chances.sum())


def test_below_the_root_visits_follow_the_improved_policy() -> None:
    """The root has one action that can be taken; behind it the policy is the prior, as all is worth the same."""

    class Narrow(Known):
        def root(self) -> tuple[NDArray[Any], NDArray[Any]]:
            return np.zeros(1), np.array([[1.0, 0.0, 0.0]])

    tree = search(
        Narrow([0.0, 0.0, 0.0], prior=[0.1, 0.7, 0.2]),
        simulations=11,
        depth=2,
        selection=Gumbel(np.zeros((1, 3)), simulations=11),
    )
    assert tree.root_visits.tolist() == [[11, 0, 0]]
    assert tree.visits[0, 1].tolist() == [1, 7, 2]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    simulations=st.sampled_from([1, 2, 4, 7, 16]),
    actions=st.integers(2, 9),
    spread=st.floats(0, 4),
)
def test_it_improves_any_policy(seed: int, simulations: int, actions: int, spread: float) -> None:
    """The action of the highest g + log P is a draw from the prior; what is chosen is worth as much in every row."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(64, actions)) * spread
    prior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    bandits = Bandits(prior, rng.normal(size=(64, actions)))
    noise = gumbel_numbers(rng.random((64, actions)))
    selection = Gumbel(noise, simulations)
    tree = search(bandits, simulations=simulations, depth=1, selection=selection)
    each = np.arange(64)
    drawn = (noise + np.log(prior)).argmax(1)
    chosen = selection.best(tree)
    assert (bandits.returns[each, chosen] >= bandits.returns[each, drawn] - 1e-12).all()
    policy = selection.policy(tree)
    np.testing.assert_allclose(policy.sum(1), 1)
    # What was tried and is better than another tried action has gained on it
    tried = tree.root_visits > 0
    gain = np.log(np.maximum(policy, 1e-300)) - np.log(prior)
    for row in range(64):
        found = np.flatnonzero(tried[row])
        order = found[np.argsort(bandits.returns[row, found])]
        assert (np.diff(gain[row, order]) >= -1e-6).all()


def test_four_simulations_improve_a_policy_on_average() -> None:
    rng = np.random.default_rng(0)
    prior = np.full((2000, 8), 1 / 8)
    bandits = Bandits(prior, np.tile(np.arange(8.0), (2000, 1)))
    selection = Gumbel(gumbel_numbers(rng.random((2000, 8))), 4)
    tree = search(bandits, simulations=4, depth=1, selection=selection)
    # The prior earns 3.5, the best of four different actions (4 + 1) / (4 + 1) · 9 · 4 / 5 - 1 = 6.2 on average
    assert selection.best(tree).mean() == pytest.approx(6.2, abs=0.3)
    assert (selection.policy(tree) * bandits.returns).sum(1).mean() > 5


def test_an_exact_model_and_enough_simulations_give_the_optimum() -> None:
    model = small_dream(StairsMemory(), CHOICE)
    state = state_at(model, -1.0, 0.0, 2.0)
    for simulations in (80, 200):
        planner = MCTS(horizon=5, simulations=simulations, particles=1, gumbel=True, gumbel_noise=0.0)
        plan = planner.plan(model, state, noise=torch.Generator().manual_seed(0))
        assert plan.action.tolist() == [UP] * 3
        assert plan.policy is not None
        assert plan.policy.shape == (3, 3)
        assert plan.policy.argmax(1).tolist() == [2] * 3


def test_noise_of_the_root_and_shares_of_visits() -> None:
    model = small_dream(StairsMemory(), CHOICE)
    state = state_at(model, *[0.0] * 40)
    actions = [
        MCTS(horizon=1, rollout=1, simulations=1, particles=1, gumbel=True, gumbel_noise=noise)
        .plan(model, state, noise=torch.Generator().manual_seed(1))
        .action.unique()
        for noise in (0.0, 1.0)
    ]
    assert [len(found) for found in actions] == [1, 3]
    plan = MCTS(horizon=2, simulations=10).plan(model, state, noise=torch.Generator().manual_seed(1))
    assert plan.policy is not None
    torch.testing.assert_close(plan.policy.sum(1), torch.ones(40, dtype=torch.float64))
    assert (plan.policy * 10 % 1 == 0).all()


def test_bad_settings() -> None:
    with pytest.raises(ConfigurationError, match="considered must be an integer of at least 1, got 0"):
        MCTS(considered=0)
    with pytest.raises(ConfigurationError, match="gumbel_noise must be a finite number of at least 0, got -1"):
        MCTS(gumbel_noise=-1.0)
