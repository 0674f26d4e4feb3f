from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamenv.agents.mpc import mpc_agent
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.planners import MCTS, RowNoise, imagined_returns
from tests.agents.small_dreams import CHOICE, MOVE, StairsMemory, TargetMemory, small_dream
from tests.fakes import CountingMemory, NoisyMemory, fake_world_model
from tests.planners.problems import BANDIT, bandit_model, best_return, state_at

UP, STAY, DOWN = int(CHOICE.start) + 2, int(CHOICE.start) + 1, int(CHOICE.start)


def worthless(features: torch.Tensor) -> torch.Tensor:
    return 0 * features[:, 0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_it_climbs_stairs_that_pay_later() -> None:
    model = small_dream(StairsMemory(), CHOICE)
    planner = MCTS(horizon=5, simulations=80, particles=1)
    plan = planner.plan(model, state_at(model, -1.0, 0.0, 2.0), noise=generator())
    assert plan.action.tolist() == [UP] * 3
    assert plan.actions.shape == (3, 1)
    assert plan.action.dtype == torch.int64
    best = best_return(model, state_at(model, -1.0, 0.0, 2.0), 5, discount=0.99)
    assert (plan.value < best).all()
    # A step on, there are four steps left, in which a stair still pays, and so on until it does not
    actions, state = [], state_at(model, 0.0)
    for left in range(5, 0, -1):
        step = MCTS(horizon=left, simulations=80, particles=1, discount=1.0)
        action = step.plan(model, state, noise=generator()).action
        state, _ = model.memory.imagine(state, action, noise=generator())
        actions.append(int(action))
    assert actions in ([UP, UP, STAY, STAY, STAY], [UP, UP, UP, STAY, STAY])  # the third is worth what it costs


def test_an_end_that_comes_soon_makes_stairs_not_worth_climbing() -> None:
    model = small_dream(StairsMemory(ends=0.5), CHOICE)
    plan = MCTS(horizon=5, simulations=80).plan(model, state_at(model, 1.0), noise=generator())
    assert plan.action.tolist() == [STAY]


@pytest.mark.parametrize(("ends", "best"), [(0.0, UP), (0.9, STAY)])
def test_the_terminal_value_counts_if_it_is_reached(ends: float, best: int) -> None:
    model = small_dream(StairsMemory(ends=ends), CHOICE)
    planner = MCTS(horizon=1, simulations=30, terminal_value=lambda features: 10 * features[:, 0])
    assert planner.plan(model, state_at(model, 0.0), noise=generator()).action.tolist() == [best]
    without = MCTS(horizon=1, simulations=30)
    assert without.plan(model, state_at(model, 0.0), noise=generator()).action.tolist() == [STAY]


def test_a_certain_end_closes_the_node() -> None:
    model = fake_world_model(CountingMemory(lifetime=2))
    state = model.start(torch.tensor([0]), noise=generator())
    tree = MCTS(horizon=6, simulations=60, particles=2, discount=1.0).search(model, state, noise=generator())
    # Rewards are the action plus the age: best of 1 to 4 is 4, twice
    assert tree.best_action().tolist() == [3]
    first = tree.child[0, 0]
    below = tree.child[0, first]
    assert (first > 0).all()
    assert tree.closed[0, below[below > 0]].all()
    assert tree.closed.sum() == (below > 0).sum()
    assert tree.root_visits.sum() == 60
    assert (tree.child >= 0).sum() == 4 + (below > 0).sum() < 60


def test_rewards_of_a_node_are_those_of_the_dreams_that_reach_it() -> None:
    model = small_dream(StairsMemory(ends=0.5), CHOICE)

    def stay(features: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 1.0, 0.0]).expand(len(features), -1)

    planner = MCTS(horizon=3, simulations=3, particles=2, discount=0.9, prior=stay)
    tree = planner.search(model, state_at(model, 8.0), noise=generator())
    assert tree.reward[0, :3, 1].tolist() == pytest.approx([8, 8, 8])
    assert tree.discount[0, :3, 1].tolist() == pytest.approx([0.45, 0.45, 0.45])


def test_random_rollouts_are_worth_the_mean_of_all_plans() -> None:
    model = fake_world_model(CountingMemory())
    state = model.start(torch.tensor([0]), noise=generator())
    for rollout, expected in ((None, 2.5 * 4 + 1 + 2 + 3 + 4), (2, 2.5 * 2 + 1 + 2), (0, 0)):
        settings: dict[str, Any] = {"rollout": rollout, "simulations": 1, "particles": 4000}
        planner = MCTS(horizon=4, discount=1.0, terminal_value=worthless, **settings)
        tree = planner.search(model, state, noise=generator())
        # The mean of the root's own value and that of action 1, which is tried first
        reached = {None: 1 + 1 + 2.5 * 3 + 2 + 3 + 4, 2: 1 + 1 + 2.5 * 2 + 2 + 3, 0: 2}[rollout]
        assert tree.root_value[0] == pytest.approx((expected + reached) / 2, abs=0.06)


def test_particles_average_chance_out() -> None:
    model = bandit_model()
    state = state_at(model, *[0.0] * 40)
    right = {}
    for particles in (1, 64):
        planner = MCTS(horizon=1, simulations=6, particles=particles, temperature=0.7)
        chosen = planner.plan(model, state, noise=generator()).action
        right[particles] = float((chosen == int(BANDIT.start) + 1).float().mean())
    assert right[1] < 0.9 < right[64]


@settings(max_examples=6)
@given(seed=st.integers(0, 2**31))
def test_more_simulations_do_not_do_worse_on_average(seed: int) -> None:
    model = small_dream(StairsMemory(), CHOICE)
    state = state_at(model, *torch.linspace(-1, 1, 48).tolist())
    means = []
    for simulations in (4, 16, 64):
        planner = MCTS(horizon=5, simulations=simulations, particles=1)
        action = planner.plan(model, state, noise=generator(seed)).action
        after, prediction = model.memory.imagine(state, action, noise=generator())
        # What the action is worth when the best plan follows it
        means.append(float((prediction.reward + 0.99 * best_return(model, after, 4, discount=0.99)).mean()))
    assert means[0] <= means[1] + 0.05 <= means[2] + 0.1
    assert means[2] > means[0]


def test_a_row_is_planned_as_if_it_were_alone() -> None:
    model = fake_world_model(NoisyMemory(), action_space=CHOICE)
    planner = MCTS(horizon=4, simulations=12, particles=3)
    state = model.start(torch.tensor([0, 3, 1]), noise=generator())
    together = planner.search(model, state, noise=RowNoise([generator(seed) for seed in (5, 6, 7)]))
    for row in range(3):
        own = type(state)(*(part[row : row + 1] for part in state))
        alone = planner.search(model, own, noise=RowNoise([generator(5 + row)]))
        np.testing.assert_array_equal(alone.visits[0], together.visits[row])
        np.testing.assert_allclose(alone.node_value[0], together.node_value[row])


def test_an_action_is_held() -> None:
    model = fake_world_model(CountingMemory())
    state = model.start(torch.tensor([0]), noise=generator())
    settings: dict[str, Any] = {"action_repeat": 2, "simulations": 12, "rollout": 0, "particles": 2}
    planner = MCTS(horizon=5, discount=0.5, terminal_value=worthless, **settings)
    tree = planner.search(model, state, noise=generator())
    # Two steps of action 1 and of action 2, the second half as much: 2 + 3 / 2 and 3 + 4 / 2
    assert tree.reward[0, 0, :2].tolist() == [3.5, 5.0]
    assert tree.discount[0, 0, :2].tolist() == [0.25, 0.25]
    plan = planner.plan(model, state, noise=generator())
    assert planner.length == 2
    assert plan.actions.tolist() == [[int(plan.action)] * 2]


def test_the_prior_is_that_of_the_features() -> None:
    model = small_dream(StairsMemory(), CHOICE)

    def prior(features: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.0, 0.0, 1.0]).expand(len(features), -1)

    tree = MCTS(horizon=3, simulations=10, prior=prior).search(model, state_at(model, 0.0), noise=generator())
    assert tree.root_visits.tolist() == [[0, 0, 10]]


def test_the_generator_fixes_the_search() -> None:
    model = fake_world_model(NoisyMemory())
    state = model.start(torch.tensor([0, 1]), noise=generator())
    first, same, other = (
        MCTS(simulations=8, horizon=4).search(model, state, noise=generator(seed)).node_value for seed in (1, 1, 2)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_its_value_is_what_its_plans_are_worth() -> None:
    model = small_dream(StairsMemory(), CHOICE)
    state = state_at(model, 3.0)
    plan = MCTS(horizon=1, simulations=3, particles=1, discount=1.0).plan(model, state, noise=generator())
    every = torch.tensor([[[DOWN], [STAY], [UP]]])
    returns = imagined_returns(model, state, every, noise=generator())[0].tolist()
    assert returns == [2, 3, 1]
    # One visit each, and the root's own random rollout, which is one of the three
    assert float(plan.value) in [pytest.approx((6 + own) / 4) for own in returns]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"simulations": 0}, "simulations must be an integer of at least 1, got 0"),
        ({"horizon": 0}, "horizon must be"),
        ({"particles": -1}, "particles must be"),
        ({"rollout": 13}, r"rollout must be an integer in \[0, horizon=12\] or None.*got 13"),
        ({"rollout": 1.5}, r"rollout must be.*got 1\.5"),
        ({"rollout": -1}, "rollout must be"),
        ({"exploration": 0.0}, "exploration must be a finite number above 0"),
        ({"temperature": float("inf")}, "temperature must be"),
        ({"discount": 0.0}, "discount must be"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MCTS(**options)


def test_box_actions_and_broken_dreams_are_refused() -> None:
    box = small_dream(TargetMemory(), MOVE)
    with pytest.raises(ConfigurationError, match=r"mcts searches over Discrete actions, got Box.*'cem'"):
        MCTS().plan(box, state_at(box, 0.0), noise=generator())
    broken = fake_world_model(CountingMemory(broken_from=2))
    for rollout in (0, None):
        planner = MCTS(rollout=rollout, terminal_value=worthless)
        with pytest.raises(NonFiniteError, match="not finite"):
            planner.plan(broken, broken.start(torch.tensor([0]), noise=generator()), noise=generator())


def test_without_random_steps_a_value_is_needed() -> None:
    """Else every new node would be worth nothing, and a search of few simulations would choose by its prior alone."""
    model = small_dream(StairsMemory(), CHOICE)
    message = r"rollout=0 .*StairsMemory has learned none\. Leave rollout out .* guide= .*'value_equivalent'"
    with pytest.raises(ConfigurationError, match=message):
        MCTS(rollout=0).plan(model, state_at(model, 0.0), noise=generator())
    # Agents and distillation refuse it before they play
    with pytest.raises(ConfigurationError, match=message):
        mpc_agent("planner:mcts,rollout=0", model)
    assert MCTS(rollout=0, terminal_value=worthless).cold(model, 2).shape == (2, 0, 0)
