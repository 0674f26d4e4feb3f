"""Each particle of a plan is a branch of its own (TS∞): members of an ensemble are drawn for it at the plan's start."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.bundle import StartStates
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import Noise
from dreamenv.noise.branching import RowNoise
from dreamenv.planners import CEM, ILQR, MCTS, MPPI, GradientPlanner, RandomShooting, imagined_returns
from dreamenv.planners.base import Planner
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

BOX = spaces.Box(-1.0, 1.0, (1,))
MEMBERS = 4


def disagreeing(action_space: Any = BOX) -> WorldModel:
    """An ensemble of "episode" propagation whose member m pays m at every step, whatever is done."""
    memory = ProbabilisticEnsemble(
        1, action_space, MEMBERS, MEMBERS, hidden_size=4, layers=1, propagation="episode"
    ).eval()
    last = memory.networks.linear[-1]
    with torch.no_grad():
        for part in memory.parameters():
            part.zero_()
        last.bias[:, 0, 1] = torch.arange(MEMBERS).float()  # mean of the reward
        memory.termination_head.network[2].bias.fill_(-50.0)
    real = RealEnvSpec("Pendulum-v1")
    return WorldModel(
        IdentityVision(1), memory, real, action_space, StartStates(torch.zeros(3, 1)), max_episode_steps=9
    )


def begun(model: WorldModel, rows: int = 1) -> Any:
    """States of an episode in which member 0 was drawn."""
    state = model.memory.initial(torch.zeros(rows, 1), noise=torch.Generator().manual_seed(0))
    return state._replace(member=torch.zeros(rows, dtype=torch.int64))


def test_particles_of_a_plan_have_members_of_their_own() -> None:
    model = disagreeing()
    actions = torch.zeros(1, 2, 5, 1)
    noise = torch.Generator().manual_seed(1)
    many = imagined_returns(model, begun(model), actions, noise=noise, particles=4000)
    # The mean over members, 1.5 a step; of member 0 alone, which drew the episode, it was 0
    torch.testing.assert_close(many, torch.full((1, 2), 5 * 1.5, dtype=torch.float64), rtol=0.0, atol=0.2)
    # Whoever is drawn stays for the whole plan
    few = [float(imagined_returns(model, begun(model), actions, noise=noise, particles=1)[0, 0]) for _ in range(40)]
    assert set(few) == {0.0, 5.0, 10.0, 15.0}


def test_candidates_of_common_noise_meet_the_same_members() -> None:
    model = disagreeing()
    found = imagined_returns(
        model, begun(model, 3), torch.zeros(3, 8, 4, 1), noise=torch.Generator().manual_seed(2), particles=3
    )
    assert torch.equal(found, found[:, :1].expand_as(found))
    assert len(found[:, 0].unique()) > 1


@pytest.mark.parametrize("scheme", [CEM, MPPI, RandomShooting, MCTS, GradientPlanner, ILQR])
def test_every_planner_draws_members(scheme: Any) -> None:
    discrete = scheme is MCTS
    model = disagreeing(spaces.Discrete(2) if discrete else BOX)
    sizes: dict[Any, Any] = {
        MCTS: {"simulations": 4, "rollout": 0, "particles": 1, "terminal_value": lambda features: 0 * features[:, 0]},
        GradientPlanner: {"iterations": 1, "particles": 1},
        ILQR: {"iterations": 1},
    }
    planner: Planner = scheme(horizon=2, discount=1.0, **sizes.get(scheme, {"candidates": 20, "particles": 1}))
    values = set()
    for seed in range(24):
        noise = RowNoise([torch.Generator().manual_seed(seed)])
        values.add(round(float(planner.plan(model, begun(model), noise=noise).value[0]), 3))
    assert len(values) == MEMBERS, f"one plan a member, got {values}"


@pytest.mark.parametrize("scheme", [CEM, MPPI, RandomShooting, GradientPlanner])
def test_particles_of_every_planner_average_over_members(scheme: Any) -> None:
    sizes: dict[str, Any] = {"iterations": 1} if scheme is GradientPlanner else {"candidates": 20}
    planner: Planner = scheme(horizon=2, discount=1.0, particles=400, **sizes)
    noise = RowNoise([torch.Generator().manual_seed(0)])
    model = disagreeing()
    assert float(planner.plan(model, begun(model), noise=noise).value[0]) == pytest.approx(2 * 1.5, abs=0.4)


def test_of_step_propagation_members_are_drawn_at_every_step() -> None:
    model = disagreeing()
    model.memory.propagation = "step"
    noise = torch.Generator().manual_seed(1)
    few = [float(imagined_returns(model, begun(model), torch.zeros(1, 1, 2, 1), noise=noise)[0, 0]) for _ in range(80)]
    # Two draws of 0 to 3; whoever stayed for both steps would give even numbers alone
    assert set(few) == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0}
    mode = imagined_returns(model, begun(model), torch.zeros(1, 1, 2, 1), noise=noise, temperature=0.0)
    assert float(mode[0, 0]) == pytest.approx(3.0), "the mode takes the mean of the members"


def test_replayed_starts_draw_members_too() -> None:
    model = disagreeing()
    model.starts = StartStates(
        torch.zeros(1, 1), {"latent": torch.zeros(1, 1), "member": torch.zeros(1, dtype=torch.int64)}
    )
    state = model.start(torch.zeros(200, dtype=torch.int64), start="replay", noise=torch.Generator().manual_seed(3))
    assert state.member.bincount(minlength=MEMBERS).min() > 25


def test_branches_draw_dropout_anew() -> None:
    memory = MDNRNN(2, BOX, hidden_size=64, mixtures=2, dropout=0.5, dropout_in_dream=True).eval()
    state = memory.initial(torch.zeros(2, 2), noise=torch.Generator().manual_seed(0))
    branched = memory.branch(state, 3, noise=torch.Generator().manual_seed(1))
    assert len(branched.dropout.unique(dim=0)) == 6
    assert torch.equal(branched.latent, torch.zeros(6, 2))


class PlaceState(NamedTuple):
    place: Tensor


class Judged(MemoryModel[PlaceState]):
    """Pays nothing, but has learned what places are worth and where to go: action 1 leads up."""

    embedding_size = latent_size = feature_size = 1
    latent_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latent_std", torch.ones(1))

    @property
    def state_type(self) -> type[PlaceState]:
        return PlaceState

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> PlaceState:
        return PlaceState(embedding)

    def observe(
        self, state: PlaceState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[PlaceState, Prediction]:
        return PlaceState(embedding), self.imagine(state, action, noise=noise)[1]

    def imagine(
        self, state: PlaceState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PlaceState, Prediction]:
        none = torch.zeros(len(action))
        extras = {"height": state.place[:, 0]}
        return PlaceState(state.place + action.float().view(-1, 1)), Prediction(none, none, none > 0, extras)

    def features(self, state: PlaceState) -> Tensor:
        return state.place

    def latent(self, state: PlaceState) -> Tensor:
        return state.place

    def value(self, state: PlaceState) -> Tensor:
        return 10.0 * state.place[:, 0]

    def prior(self, state: PlaceState) -> Tensor:
        return torch.tensor([0.0, 3.0]).expand(len(state.place), 2)

    def config(self) -> dict[str, Any]:
        return {"kind": "judged"}


def judged() -> WorldModel:
    return WorldModel(
        IdentityVision(1), Judged(), RealEnvSpec("CartPole-v1"), spaces.Discrete(2), StartStates(torch.zeros(2, 1)),
        max_episode_steps=5,
    )  # fmt: skip


def test_planners_use_the_value_and_the_prior_that_a_memory_has_learned() -> None:
    model = judged()
    state = model.memory.initial(torch.zeros(1, 1), noise=torch.Generator())
    actions = torch.tensor([[[1, 1, 0], [0, 0, 0]]])
    returns = imagined_returns(model, state, actions, noise=torch.Generator().manual_seed(0), discount=0.5)
    torch.testing.assert_close(returns, torch.tensor([[0.125 * 20.0, 0.0]], dtype=torch.float64))
    other = imagined_returns(
        model, state, actions, noise=torch.Generator(), terminal_value=lambda features: -features[:, 0]
    )
    torch.testing.assert_close(other, torch.tensor([[-2.0, 0.0]], dtype=torch.float64))
    tree = MCTS(horizon=3, simulations=8, rollout=0).search(
        model, state, noise=RowNoise([torch.Generator().manual_seed(0)])
    )
    assert tree.best_action().tolist() == [1]
    # With as good as no simulations the search goes where the prior points
    first = MCTS(horizon=1, simulations=1, rollout=0, terminal_value=lambda features: 0 * features[:, 0])
    plan = first.plan(model, state, noise=RowNoise([torch.Generator().manual_seed(0)]))
    assert plan.action.tolist() == [1]


def test_extras_of_a_step_are_infos_by_their_name() -> None:
    from dreamenv.envs import DreamEnv, DreamVectorEnv

    env = DreamEnv(judged())
    env.reset(seed=0)
    heights = [env.step(1)[4]["height"] for _ in range(3)]
    assert heights == [0.0, 1.0, 2.0]
    assert all(isinstance(height, float) for height in heights)
    envs = DreamVectorEnv(judged(), 3)
    envs.reset(seed=0)
    envs.step(np.array([1, 0, 1]))
    infos = envs.step(np.array([1, 1, 1]))[4]
    np.testing.assert_array_equal(infos["height"], [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(infos["_height"], [True, True, True])
