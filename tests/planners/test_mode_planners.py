"""Planning by gradients and iLQR: exact where the best plan is known, derivatives against finite differences."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.agents.mpc import mpc_agent
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import Noise
from dreamenv.planners import ILQR, GradientPlanner, RowNoise, imagined_returns
from dreamenv.planners.box_quadratic import box_minimum
from dreamenv.planners.mode_derivatives import mode_step, numbers, step_derivatives, value_derivatives, with_numbers
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE, MOVE, TARGET, StairsMemory, TargetMemory, small_dream
from tests.fakes import draw_weights, trained_like_world_model

BOX = spaces.Box(np.array([-1.0, -2.0], np.float32), np.array([3.0, 2.0], np.float32))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class PointState(NamedTuple):
    point: Tensor
    unused: Tensor


class LinearQuadratic(MemoryModel[PointState]):
    """x' = A·x + B·a + c; the reward is -(x'Q·x + a'R·a), and at the end of a plan 2·x'Q·x is due.

    The end is as probable as a logistic function of the first coordinate says, times `ends`.
    """

    embedding_size = latent_size = feature_size = 2
    latent_std: Tensor
    turn = torch.tensor([[0.9, 0.3], [-0.2, 1.05]])
    push = torch.tensor([[0.5, 0.1], [0.0, 0.4]])
    drift = torch.tensor([0.05, -0.1])
    state_cost = torch.tensor([[1.0, 0.2], [0.2, 0.5]])
    action_cost = torch.tensor([[0.3, 0.1], [0.1, 0.2]])

    def __init__(self, ends: float = 0.0) -> None:
        super().__init__()
        self.ends = ends
        self.register_buffer("latent_std", torch.ones(2))

    @property
    def state_type(self) -> type[PointState]:
        return PointState

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> PointState:
        return PointState(embedding, torch.arange(len(embedding)))

    def observe(
        self, state: PointState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[PointState, Prediction]:
        return PointState(embedding, state.unused), self.imagine(state, action, noise=noise)[1]

    def imagine(
        self, state: PointState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PointState, Prediction]:
        cost = _form(self.state_cost, state.point) + _form(self.action_cost, action)
        after = state.point @ self.turn.T + action @ self.push.T + self.drift
        probability = self.ends * torch.sigmoid(3 * after[:, 0])
        return PointState(after, state.unused), Prediction(-cost, probability, probability > 0.5)

    def features(self, state: PointState) -> Tensor:
        return state.point

    def latent(self, state: PointState) -> Tensor:
        return state.point

    def value(self, state: PointState) -> Tensor:
        return -2 * _form(self.state_cost, state.point)

    def config(self) -> dict[str, Any]:
        return {"kind": "linear_quadratic"}


def _form(matrix: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("bi,ij,bj->b", vectors, matrix, vectors)


def world(memory: MemoryModel[Any], action_space: Any = BOX) -> WorldModel:
    starts = StartStates(torch.randn(4, memory.embedding_size, generator=generator(3)))
    real = RealEnvSpec("Pendulum-v1")
    return WorldModel(IdentityVision(memory.embedding_size), memory, real, action_space, starts, max_episode_steps=9)


def begun(model: WorldModel, rows: int = 3) -> Any:
    return model.start(torch.arange(rows), noise=generator())


def unmet(model: WorldModel, state: Any, actions: Tensor, discount: float) -> tuple[Tensor, Tensor]:
    """How far plans of a concave problem are from the best within the bounds: by how much the return still rises along
    each action that is free to follow, `[B, L, A]`, and which actions are at a bound."""
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    actions = actions.detach().requires_grad_()
    total, weight = torch.zeros(len(actions), dtype=torch.float64), 1.0
    for step in range(actions.shape[1]):
        state, said = model.memory.imagine(state, actions[:, step], noise=generator())
        total, weight = total + weight * said.reward.double(), weight * discount
    worth = model.memory.value(state)
    assert worth is not None
    (slope,) = torch.autograd.grad((total + weight * worth).sum(), actions)
    down, up = actions <= low, actions >= high
    return torch.where(down, slope.clamp(min=0), torch.where(up, slope.clamp(max=0), slope)).abs(), down | up


def test_ilqr_solves_a_linear_quadratic_problem_in_one_iteration_where_no_bound_matters() -> None:
    model = world(LinearQuadratic(), spaces.Box(-50.0, 50.0, (2,), np.float32))
    state = begun(model)
    once = ILQR(horizon=6, starts=1, iterations=1, discount=0.95).plan(model, state, noise=generator())
    # What the Riccati recursion says
    memory = model.memory
    assert isinstance(memory, LinearQuadratic)
    parts = (memory.turn, memory.push, memory.drift, memory.state_cost, memory.action_cost)
    turn, push, drift, state_cost, action_cost = (part.double() for part in parts)
    worth, slope, feedback = 2 * state_cost, torch.zeros(2, dtype=torch.float64), []
    for _ in range(6):
        inner = action_cost + 0.95 * push.T @ worth @ push
        gain = torch.linalg.solve(inner, 0.95 * push.T @ worth @ turn)
        offset = torch.linalg.solve(inner, 0.95 * push.T @ (worth @ drift + slope))
        closed, moved = turn - push @ gain, drift - push @ offset
        slope = gain.T @ action_cost @ offset + 0.95 * closed.T @ (worth @ moved + slope)
        worth = state_cost + gain.T @ action_cost @ gain + 0.95 * closed.T @ worth @ closed
        feedback.append((gain, offset))
    place = state.point.double()
    for step, (gain, offset) in enumerate(reversed(feedback)):
        action = -place @ gain.T - offset
        torch.testing.assert_close(once.actions[:, step].double(), action, rtol=1e-4, atol=1e-4)
        place = place @ turn.T + action @ push.T + drift


@pytest.mark.parametrize(
    ("planner", "tolerance"),
    [
        (ILQR(horizon=6, starts=1, discount=0.95, tolerance=1e-9), 1e-3),
        (GradientPlanner(horizon=6, starts=2, iterations=60, discount=0.95), 0.05),
    ],
    ids=lambda p: getattr(p, "scheme", ""),
)
def test_they_find_the_best_plan_within_the_bounds(planner: Any, tolerance: float) -> None:
    model = world(LinearQuadratic())
    state = model.memory.initial(torch.tensor([[3.0, -1.0], [-2.0, 2.5], [0.1, 0.2]]), noise=generator())
    plan = planner.plan(model, state, noise=generator())
    rising, bounded = unmet(model, state, plan.actions, planner.discount)
    assert rising.max() < tolerance
    assert bounded.any()
    assert not bounded.all()


@pytest.mark.parametrize("planner", [GradientPlanner(horizon=4), ILQR(horizon=4)], ids=lambda p: p.scheme)
def test_the_value_is_the_return_of_the_plan_and_no_plan_is_worse_than_its_start(planner: Any) -> None:
    model = world(LinearQuadratic(ends=0.8))
    state = begun(model)
    warm = torch.rand(3, 4, 2, generator=generator(5)) * 2 - 1
    plan = planner.plan(model, state, noise=generator(), warm=warm)
    again = imagined_returns(
        model, state, plan.actions.unsqueeze(1), noise=generator(), discount=planner.discount, temperature=0.0
    )
    torch.testing.assert_close(plan.value, again[:, 0], rtol=1e-5, atol=1e-5)
    low, high = torch.tensor(BOX.low), torch.tensor(BOX.high)
    former = imagined_returns(
        model,
        state,
        (low + (high - low) * (warm + 1) / 2).unsqueeze(1),
        noise=generator(),
        discount=planner.discount,
        temperature=0.0,
    )
    assert (plan.value > former[:, 0]).all()
    assert torch.equal(plan.action, plan.actions[:, 0])


class Cliff(LinearQuadratic):
    """Pays 1 a step, and ends the more likely the further one is from (0, 0)."""

    def imagine(
        self, state: PointState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PointState, Prediction]:
        after = state.point + 0.3 * action
        end = torch.sigmoid(4 * after.square().sum(1) - 4)
        return PointState(after, state.unused), Prediction(torch.ones_like(end), end, end > 0.5)

    def value(self, state: PointState) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize("planner", [GradientPlanner(horizon=5), ILQR(horizon=5)], ids=lambda p: p.scheme)
def test_where_the_end_alone_tells_good_from_bad_they_keep_away_from_it(planner: Any) -> None:
    model = world(Cliff(), MOVE2)
    state = model.memory.initial(torch.tensor([[0.9, 0.0], [0.0, -0.8]]), noise=generator())
    plan = planner.plan(model, state, noise=generator())
    for step in range(5):
        state, _ = mode_step(model.memory, state, plan.actions[:, step])
    assert (numbers(state).norm(dim=1) < 0.45).all(), numbers(state)
    assert (plan.value > 4.5).all()


MOVE2 = spaces.Box(-1.0, 1.0, (2,), np.float32)


def differentiable_memories() -> list[Any]:
    ensemble = ProbabilisticEnsemble(2, BOX, 3, 2, hidden_size=6, layers=1)
    lstm = MDNRNN(2, BOX, hidden_size=5, mixtures=2)
    for memory in (ensemble, lstm):
        draw_weights(memory, generator(7))
    return [LinearQuadratic(ends=0.5), ensemble.eval(), lstm.eval()]


@pytest.mark.parametrize("memory", differentiable_memories(), ids=lambda m: type(m).__name__)
def test_derivatives_are_those_of_finite_differences(memory: MemoryModel[Any]) -> None:
    state = memory.initial(torch.randn(3, 2, generator=generator(1)), noise=generator())
    action = torch.rand(3, 2, generator=generator(2))
    with torch.no_grad():
        found = step_derivatives(memory, state, action)
        size = numbers(state).shape[1]
        inputs = torch.cat([numbers(state), action], 1)

        def out(at: Tensor) -> Tensor:
            after, said = mode_step(memory, with_numbers(state, at[:, :size]), at[:, size:])
            figures = [said.reward.double(), said.termination_probability.double()]
            return torch.cat([numbers(after), torch.stack(figures, 1)], 1)

        small = 0.01
        for column in range(inputs.shape[1]):
            off = torch.zeros_like(inputs)
            off[:, column] = small
            slope = (out(inputs + off) - out(inputs - off)) / (2 * small)
            exact = torch.cat([found.following, found.reward.unsqueeze(1), found.end.unsqueeze(1)], 1)[:, :, column]
            torch.testing.assert_close(exact, slope.double(), rtol=1e-2, atol=2e-3)
            up, down = (
                step_derivatives(memory, *_moved(state, action, off, size)),
                step_derivatives(memory, *_moved(state, action, -off, size)),
            )
            for first, second in (("reward", "reward_curvature"), ("end", "end_curvature")):
                bend = (getattr(up, first) - getattr(down, first)) / (2 * small)
                torch.testing.assert_close(getattr(found, second)[:, :, column], bend, rtol=1e-2, atol=2e-3)
    assert found.end_curvature.abs().max() > 1e-4


def _moved(state: Any, action: Tensor, off: Tensor, size: int) -> tuple[Any, Tensor]:
    return with_numbers(state, numbers(state) + off[:, :size]), action + off[:, size:]


def test_derivatives_of_what_states_are_worth() -> None:
    memory = LinearQuadratic()
    state = memory.initial(torch.randn(3, 2, generator=generator(1)), noise=generator())
    own = value_derivatives(memory, state, None)
    torch.testing.assert_close(own.value, memory.value(state).double())
    torch.testing.assert_close(own.slope, (-4 * state.point @ memory.state_cost).double())
    torch.testing.assert_close(own.curvature, (-4 * memory.state_cost).double().expand(3, 2, 2))
    given = value_derivatives(memory, state, lambda features: features[:, 0])
    assert given.slope.tolist() == [[1.0, 0.0]] * 3
    assert not given.curvature.any()
    constant = value_derivatives(memory, state, lambda features: torch.ones(len(features)))
    assert constant.value.tolist() == [1.0] * 3
    assert not constant.slope.any()


def test_the_minimum_within_bounds_is_the_best_of_all_sets_of_bounds() -> None:
    draw = torch.randn(40, 3, 3, generator=generator()).double()
    curvature = draw @ draw.transpose(1, 2) + 0.1 * torch.eye(3)
    slope = 3 * torch.randn(40, 3, generator=generator(1)).double()
    low, high = -torch.rand(40, 3, generator=generator(2)).double(), torch.rand(40, 3, generator=generator(3)).double()
    found = box_minimum(curvature, slope, low, high)
    for row in range(40):
        worth = float("inf")
        for held in itertools.product((0, 1, 2), repeat=3):
            place = torch.stack([(low, high, low)[side][row, k] for k, side in enumerate(held)])
            free = [k for k, side in enumerate(held) if side == 2]
            fixed = [k for k in range(3) if k not in free]
            if free:
                right = -slope[row, free] - curvature[row][free][:, fixed] @ place[fixed]
                place[free] = torch.linalg.solve(curvature[row][free][:, free], right)
            if ((place >= low[row] - 1e-12) & (place <= high[row] + 1e-12)).all():
                worth = min(worth, float(0.5 * place @ curvature[row] @ place + slope[row] @ place))
        ours = found.place[row]
        assert float(0.5 * ours @ curvature[row] @ ours + slope[row] @ ours) == pytest.approx(worth, abs=1e-8)
    assert found.free.any()
    assert (~found.free).any()


@pytest.mark.parametrize("name", ["planner:gradient,horizon=3", "planner:ilqr,horizon=3"])
def test_they_walk_to_the_target_as_agents(name: str) -> None:
    model = small_dream(TargetMemory(), MOVE)
    agent = mpc_agent(name, model)
    assert (agent.name or "").startswith(name)
    place: Any = np.array([[-1.0], [0.9]], np.float32)
    state: Any = None
    for _ in range(4):
        with torch.inference_mode():  # as a caller may
            action, state = agent.predict(place, state)
        assert all(MOVE.contains(row) for row in action)
        place = place + action
    np.testing.assert_allclose(place, TARGET, atol=0.02)


class Proposes:
    """A guide that walks to the target, or to the wrong end, and says that beyond a plan the state is worth `worth`."""

    def __init__(self, *, wrong: bool = False, worth: float = 0.0) -> None:
        self.wrong, self.worth = wrong, worth

    def chances(self, features: Tensor) -> Tensor:
        raise NotImplementedError

    def action(self, features: Tensor) -> Tensor:
        aim = TARGET - features
        return (-aim if self.wrong else aim).clamp(-0.5, 0.5)

    def value(self, features: Tensor) -> Tensor:
        return self.worth * features[:, 0]


@pytest.mark.parametrize("starts", [1, 3])
def test_a_guides_plan_is_one_more_start(starts: int) -> None:
    """Of steps too small to get anywhere, so that what is found is where the search has begun."""
    model = small_dream(TargetMemory(), MOVE)
    planner = GradientPlanner(horizon=3, starts=starts, iterations=1, rate=1e-6)
    state = model.memory.initial(torch.tensor([[-0.9], [0.1]]), noise=generator())
    guided = planner.guided(Proposes()).plan(model, state, noise=generator())
    torch.testing.assert_close(
        guided.actions[:, :, 0], torch.tensor([[0.5, 0.5, 0.2], [0.2, 0.0, 0.0]]), atol=1e-5, rtol=0
    )
    alone = planner.plan(model, state, noise=generator())
    assert (guided.value > alone.value).all()
    misled = planner.guided(Proposes(wrong=True)).plan(model, state, noise=generator())
    assert (misled.value >= alone.value).all(), "a bad proposal costs nothing"


@pytest.mark.parametrize(
    "planner", [GradientPlanner(horizon=1, iterations=30), ILQR(horizon=1)], ids=lambda p: p.scheme
)
def test_a_guide_says_what_lies_behind_a_plan(planner: Any) -> None:
    model = small_dream(TargetMemory(), MOVE)
    state = model.memory.initial(torch.tensor([[TARGET]]), noise=generator())
    # -(x - TARGET)² + γ·w·x is largest at TARGET + γ·w / 2
    plan = replace(planner, discount=1.0).guided(Proposes(worth=0.4)).plan(model, state, noise=generator())
    assert float(plan.action) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("scheme", [GradientPlanner, ILQR])
def test_a_row_is_planned_as_if_it_were_alone(scheme: Any, guided: bool) -> None:
    model = trained_like_world_model(action_space=MOVE, image=False, latent_size=2)
    planner = scheme(horizon=3, iterations=3)
    if guided:
        planner = planner.guided(PolicyValue.fresh(model.memory.feature_size, MOVE, width=8))
    state = begun(model)
    together = planner.plan(model, state, noise=RowNoise([generator(seed) for seed in (5, 6, 7)]))
    for row in range(3):
        own = type(state)(*(part[row : row + 1] for part in state))
        alone = planner.plan(model, own, noise=RowNoise([generator(5 + row)]))
        torch.testing.assert_close(alone.value[0], together.value[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scheme", [GradientPlanner, ILQR])
def test_what_they_cannot_plan_is_refused(scheme: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"follows gradients of Box actions.*'mcts'"):
        scheme().cold(small_dream(StairsMemory(), CHOICE), 1)
    with pytest.raises(ConfigurationError, match=r"Opaque carries none. Take 'cem'"):
        scheme().cold(world(Opaque()), 1)
    for wrong in ({"starts": 0}, {"iterations": 0}, {"discount": 0.0}, {"horizon": 1.5}):
        with pytest.raises(ConfigurationError):
            scheme(**wrong)
    model = world(LinearQuadratic())
    with pytest.raises(ConfigurationError, match="warm start of shape"):
        scheme(horizon=3).plan(model, begun(model), noise=generator(), warm=torch.zeros(3, 2, 2))
    with pytest.raises(ConfigurationError, match="temperature"):
        mpc_agent(f"planner:{scheme.scheme},temperature=1", model)
    lost = model.memory.initial(torch.full((1, 2), torch.nan), noise=generator())
    with pytest.raises(NonFiniteError, match="not finite"):
        scheme(horizon=3).plan(model, lost, noise=generator())


class Opaque(LinearQuadratic):
    differentiable = False


class Deaf(LinearQuadratic):
    def imagine(
        self, state: PointState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PointState, Prediction]:
        with torch.no_grad():
            return super().imagine(state, action, noise=noise)

    def value(self, state: PointState) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize("scheme", [GradientPlanner, ILQR])
def test_a_memory_that_promises_gradients_and_gives_none_is_named(scheme: Any) -> None:
    model = world(Deaf())
    with pytest.raises(ConfigurationError, match="Deaf.*although it says that it is differentiable"):
        scheme(horizon=2).plan(model, begun(model), noise=generator())
