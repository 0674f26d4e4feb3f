"""Shooting, CEM and MPPI: the best plan of problems where it is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.planners import CEM, MPPI, Planner, RandomShooting, RowNoise, imagined_returns, make_planner
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE, MOVE, TARGET, StairsMemory, TargetMemory, small_dream
from tests.fakes import NoisyMemory, fake_world_model
from tests.planners.problems import best_return, state_at

PLACES = (-1.0, -0.4, 0.0, 0.3, 1.0)
ALL = [RandomShooting, CEM, MPPI]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def worth(model: WorldModel, state: Any, planner: Any, actions: Tensor) -> Tensor:
    """`[B]`, what plans really earn in a dream without chance."""
    return imagined_returns(model, state, actions.unsqueeze(1), noise=generator(), discount=planner.discount)[:, 0]


@pytest.mark.parametrize(
    ("planner", "tolerance"),
    [
        (RandomShooting(horizon=2, candidates=4000), 0.02),
        (CEM(horizon=3, candidates=200, elites=20, iterations=8), 0.005),
        (CEM(horizon=3, candidates=200, elites=20, iterations=8, momentum=0.0), 0.005),
        (MPPI(horizon=3, candidates=400, iterations=8, spread=0.3, softness=0.05), 0.02),
    ],
    ids=["shooting", "cem", "cem without momentum", "mppi"],
)
def test_box_plans_go_to_the_target_and_stay_there(planner: Any, tolerance: float) -> None:
    model = small_dream(TargetMemory(), MOVE)
    state = state_at(model, *PLACES)
    plan = planner.plan(model, state, noise=generator())
    assert plan.action.shape == (5, 1)
    assert plan.actions.shape == (5, planner.horizon, 1)
    assert torch.equal(plan.action, plan.actions[:, 0])
    # From a place one goes towards the target, as far as the bounds allow
    place, best = torch.tensor(PLACES), torch.zeros(5)
    for step in range(planner.horizon):
        place = place + (TARGET - place).clamp(-0.5, 0.5)
        best -= planner.discount**step * (place - TARGET).square()
    found = worth(model, state, planner, plan.actions)
    assert (found <= best + 1e-6).all()
    assert (found >= best - tolerance).all()
    assert plan.action[3].abs() < 0.15


@pytest.mark.parametrize(
    "planner",
    [
        RandomShooting(horizon=5, candidates=2500),
        CEM(horizon=5, candidates=150, elites=15, iterations=6),
        CEM(horizon=5, candidates=150, elites=15, iterations=6, momentum=0.0),
        MPPI(horizon=5, candidates=300, iterations=8, softness=0.05),
    ],
    ids=["shooting", "cem", "cem without momentum", "mppi"],
)
def test_discrete_plans_are_as_good_as_the_best_of_all(planner: Any) -> None:
    model = small_dream(StairsMemory(), CHOICE)
    state = state_at(model, -1.0, 0.0, 2.0)
    plan = planner.plan(model, state, noise=generator())
    assert plan.actions.shape == (3, 5)
    assert plan.action.dtype == torch.int64
    best = best_return(model, state, 5, discount=planner.discount)
    assert worth(model, state, planner, plan.actions).tolist() == pytest.approx(best.tolist(), abs=0.05)
    # Going up costs 3 now and pays 1 in each of 5 steps
    assert (plan.action == CHOICE.start + 2).all()


@pytest.mark.parametrize("scheme", ["shooting", "cem", "mppi"])
def test_an_end_that_comes_soon_makes_stairs_not_worth_climbing(scheme: str) -> None:
    for ends, best in ((0.0, CHOICE.start + 2), (0.5, CHOICE.start + 1)):
        model = small_dream(StairsMemory(ends=ends), CHOICE)
        plan = make_planner(scheme, horizon=5).plan(model, state_at(model, 0.0, 1.0), noise=generator())
        assert (plan.action == best).all()


@pytest.mark.parametrize("scheme", ["shooting", "cem", "mppi"])
def test_the_terminal_value_decides_where_the_horizon_is_too_near(scheme: str) -> None:
    model = small_dream(StairsMemory(), CHOICE)
    for value, best in (
        (None, 1),
        (lambda features: 10 * features[:, 0], 2),
        (lambda features: -features[:, 0] * 10, 0),
    ):
        planner = make_planner(scheme, horizon=2, terminal_value=value)
        plan = planner.plan(model, state_at(model, 0.0), noise=generator())
        assert plan.action.tolist() == [CHOICE.start + best]


@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize("scheme", ["shooting", "cem", "mppi"])
def test_a_row_is_planned_as_if_it_were_alone(scheme: str, space: str) -> None:
    model = fake_world_model(NoisyMemory(), action_space=MOVE if space == "box" else CHOICE)
    planner = make_planner(scheme, horizon=4, candidates=20, particles=3)
    index = torch.tensor([0, 3, 1])
    together = planner.plan(
        model,
        model.start(index, noise=generator()),
        noise=RowNoise([generator(seed) for seed in (5, 6, 7)]),
    )
    state = model.start(index, noise=generator())
    for row in range(3):
        own = type(state)(*(part[row : row + 1] for part in state))
        alone = planner.plan(model, own, noise=RowNoise([generator(5 + row)]))
        assert alone.policy is together.policy is None
        for ours, theirs in zip(alone[:-1], together[:-1], strict=True):
            torch.testing.assert_close(ours[0], theirs[row])


@pytest.mark.parametrize("scheme", ["shooting", "cem", "mppi"])
def test_the_generator_fixes_the_plan(scheme: str) -> None:
    model = fake_world_model(NoisyMemory(), action_space=MOVE)
    state = model.start(torch.tensor([0, 1]), noise=generator())
    first, same, other = (
        make_planner(scheme, candidates=20).plan(model, state, noise=generator(seed)).actions for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_proposal_moves_ahead_by_the_steps_taken() -> None:
    model = small_dream(TargetMemory(), MOVE)
    proposal = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1)
    by_step = {steps: RandomShooting(horizon=3).shifted(model, proposal, steps) for steps in (0, 1, 2, 3)}
    assert by_step[0].flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert by_step[1].flatten().tolist() == pytest.approx([0.2, 0.3, 0])
    assert by_step[3].flatten().tolist() == [0, 0, 0]
    held = RandomShooting(horizon=12, action_repeat=4).shifted(model, proposal, 1)
    assert held.flatten().tolist() == pytest.approx([0.125, 0.225, 0.225])
    stairs = small_dream(StairsMemory(), CHOICE)
    shifted = CEM(horizon=2).shifted(stairs, torch.eye(3)[None, :2], 1)
    assert shifted[0, 0].tolist() == [0, 1, 0]
    assert shifted[0, 1].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("planner", [p(horizon=7, action_repeat=3, candidates=16) for p in ALL], ids=lambda p: p.scheme)
def test_an_entry_holds_its_action(planner: Any) -> None:
    model = small_dream(TargetMemory(), MOVE)
    plan = planner.plan(model, state_at(model, 0.0), noise=generator())
    assert plan.proposal.shape == (1, 3, 1)
    assert planner.length == 7
    actions = plan.actions.flatten().tolist()
    assert actions == [actions[0]] * 3 + [actions[3]] * 3 + [actions[6]]


@pytest.mark.parametrize(
    "planner",
    [
        RandomShooting(horizon=8, candidates=4),
        CEM(horizon=8, candidates=12, elites=3, iterations=1),
        MPPI(horizon=8, candidates=12, iterations=1),
    ],
    ids=lambda planner: planner.scheme,
)
def test_a_warm_start_helps(planner: Planner) -> None:
    model = small_dream(StairsMemory(), CHOICE)

    def earned(warm: bool) -> float:
        state, total = state_at(model, *torch.linspace(-1, 1, 48).tolist()), 0.0
        start, draws = None, generator()
        for _ in range(10):
            plan = planner.plan(model, state, noise=draws, warm=start)
            state, prediction = model.memory.imagine(state, plan.action, noise=draws)
            total += float(prediction.reward.mean())
            start = planner.shifted(model, plan.proposal, 1) if warm else None
        return total

    assert earned(True) > earned(False) + 1


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31), scheme=st.sampled_from(["shooting", "cem", "mppi"]), box=st.booleans())
def test_more_budget_does_not_do_worse_on_average(seed: int, scheme: str, box: bool) -> None:
    model = small_dream(TargetMemory(), MOVE) if box else small_dream(StairsMemory(), CHOICE)
    state = state_at(model, *torch.linspace(-1, 1, 64).tolist())
    means = []
    for candidates, iterations in ((8, 1), (32, 2), (128, 4)):
        options = {} if scheme == "shooting" else {"iterations": iterations}
        if scheme == "cem":
            options["elites"] = candidates // 8
        planner = make_planner(scheme, horizon=5, candidates=candidates, **options)
        plan = planner.plan(model, state, noise=generator(seed))
        means.append(float(worth(model, state, planner, plan.actions).mean()))
    assert means[0] <= means[1] + 0.05 <= means[2] + 0.1
    assert means[2] > means[0]


def test_momentum_is_the_share_of_the_former_centre() -> None:
    model = small_dream(TargetMemory(), MOVE)
    warm = torch.full((1, 2, 1), 0.8)
    refitted, slowed = (
        CEM(horizon=2, iterations=1, momentum=momentum).plan(model, state_at(model, 0.0), noise=generator(), warm=warm)
        for momentum in (0.0, 0.25)
    )
    assert (refitted.proposal - warm).abs().max() > 0.1
    torch.testing.assert_close(slowed.proposal, 0.25 * warm + 0.75 * refitted.proposal)


def test_nothing_better_than_the_warm_plan_keeps_it() -> None:
    model = small_dream(TargetMemory(), MOVE)
    state = state_at(model, 0.0)
    best = torch.tensor([0.6, 0.0, 0.0]).view(1, 3, 1)  # 0.3 in units of the half range 0.5
    plan = RandomShooting(horizon=3, candidates=50).plan(model, state, noise=generator(), warm=best)
    assert plan.actions.flatten().tolist() == pytest.approx([0.3, 0, 0], abs=1e-6)
    assert float(plan.value) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("planner", [p(horizon=4, candidates=32) for p in ALL], ids=lambda p: p.scheme)
def test_candidates_that_are_all_alike_are_no_trouble(planner: Any) -> None:
    model = fake_world_model(NoisyMemory(death=1.0), action_space=MOVE)
    plan = planner.plan(model, model.start(torch.tensor([0]), noise=generator()), noise=generator())
    assert torch.isfinite(plan.actions).all()
    assert torch.isfinite(plan.value).all()


@pytest.mark.parametrize(
    ("scheme", "settings", "message"),
    [
        ("cem", {"horizon": 0}, "horizon must be an integer of at least 1, got 0"),
        ("cem", {"candidates": 0}, "candidates must be"),
        ("shooting", {"candidates": 2.5}, r"candidates must be an integer of at least 1, got 2\.5"),
        ("mppi", {"iterations": 0}, "iterations must be"),
        ("cem", {"elites": 0}, "elites must be"),
        ("cem", {"elites": 17, "candidates": 16}, "elites=17 of candidates=16"),
        ("cem", {"momentum": 1.0}, r"momentum must be in \[0, 1\), got 1\.0"),
        ("cem", {"least_spread": 0.0}, "least_spread must be a finite number above 0"),
        ("mppi", {"softness": float("nan")}, "softness must be"),
        ("mppi", {"particles": True}, "particles must be"),
        ("shooting", {"discount": 1.1}, r"discount must be in \(0, 1\]"),
        ("shooting", {"temperature": -0.5}, "temperature must be"),
        ("shooting", {"horizon": 4, "action_repeat": 5}, "action_repeat=5 is longer than horizon=4"),
        ("cme", {}, "planner 'cme' is not known. Did you mean cem?"),
        ("cem", {"candidate": 3}, "has no setting 'candidate'. Did you mean candidates"),
    ],
)
def test_bad_settings(scheme: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_planner(scheme, **settings)


def test_a_warm_start_of_another_shape_is_refused() -> None:
    model = small_dream(TargetMemory(), MOVE)
    with pytest.raises(ConfigurationError, match=r"warm start of shape \(1, 3, 1\), expected \(1, 4, 1\)"):
        CEM(horizon=4).plan(model, state_at(model, 0.0), noise=generator(), warm=torch.zeros(1, 3, 1))
