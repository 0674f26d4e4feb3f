"""Planners as agents: in dreams, in reality, alone and in batches."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import dreamenv
from dreamenv.agents import MPCAgent, load_agent, mpc_agent, resolve_agent
from dreamenv.envs import DreamEnv, DreamVectorEnv, LatentObservation
from dreamenv.errors import BundleError, ConfigurationError, SpaceMismatchError, UnknownDreamError
from dreamenv.planners import CEM, MCTS, RandomShooting
from dreamenv.planners.schemes import PLANNERS, register_planner
from dreamenv.scoring import evaluate
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE, MOVE, TARGET, StairsMemory, TargetMemory, small_dream
from tests.fakes import NoisyMemory, fake_world_model, trained_like_world_model
from tests.planners.problems import cart_pole_model

PENDULUM = spaces.Box(-2, 2, (1,), np.float32)
SMALL = "horizon=3,candidates=8"


def pendulum_model() -> WorldModel:
    spec = RealEnvSpec("Pendulum-v1", max_episode_steps=6)
    return trained_like_world_model(action_space=PENDULUM, image=False, real=spec, latent_size=3)


@pytest.mark.parametrize("scheme", ["shooting", "cem", "mppi"])
def test_it_walks_to_the_target_in_the_dream(scheme: str) -> None:
    model = small_dream(TargetMemory(), MOVE)
    env = DreamEnv(model, observation="state")
    agent = mpc_agent(f"planner:{scheme},horizon=3,candidates=200", model)
    observation, _ = env.reset(seed=1)
    state: Any = None
    for _ in range(6):
        action, state = agent.predict(observation, state)
        assert env.action_space.contains(action)
        observation, *_ = env.step(action)
    assert observation[0] == pytest.approx(TARGET, abs=0.1)


def test_it_climbs_stairs_in_many_dreams_at_once() -> None:
    model = small_dream(StairsMemory(), CHOICE)
    returns = {
        name: dream_returns(model, mpc_agent(name, model), episodes=8).mean()
        for name in ("planner:cem,horizon=6,candidates=64", "planner:mcts,horizon=6,simulations=48,particles=1")
    }
    # Those who stay where they start earn nothing on average
    assert min(returns.values()) > 20, returns


@pytest.mark.parametrize("name", ["planner:cem,horizon=15,candidates=24,elites=4,iterations=2", "planner:shooting"])
def test_with_a_dream_without_error_it_balances_the_real_pole(name: str) -> None:
    model = cart_pole_model()
    score = evaluate(model, name, episodes=2, workers=0)
    assert score.returns == (40, 40)  # a random policy falls after 22 steps on average
    assert score.agent == name
    assert score.real_frames == 0
    assert score.ms_per_decision > 0
    assert score.to_json()["ms_per_decision"] == score.ms_per_decision


def test_tree_search_balances_the_real_pole() -> None:
    model = cart_pole_model(max_episode_steps=30)
    score = evaluate(model, "planner:mcts,simulations=16,particles=1,horizon=10,action_repeat=2", episodes=1, workers=0)
    assert score.returns == (30,)


@pytest.mark.integration
def test_the_score_does_not_depend_on_the_number_of_workers() -> None:
    model = pendulum_model()
    name = f"planner:cem,{SMALL},elites=2,iterations=2,seed=5"
    alone = evaluate(model, name, episodes=3, workers=0)
    assert evaluate(model, mpc_agent(name, model), episodes=3, workers=2).returns == alone.returns
    assert evaluate(model, name.replace("seed=5", "seed=6"), episodes=3, workers=0).returns != alone.returns
    assert alone == evaluate(model, name, episodes=3, workers=0)  # whatever the time it took


def noisy() -> WorldModel:
    return fake_world_model(NoisyMemory(death=0.0), action_space=MOVE)


@pytest.mark.parametrize("execute", [1, 2])
def test_an_episode_is_played_alike_in_any_batch(execute: int) -> None:
    model = noisy()
    agent = MPCAgent(model, RandomShooting(horizon=3, candidates=6), seed=2, execute=execute)
    envs = DreamVectorEnv(model, num_envs=3, observation="state")
    observations, _ = envs.reset(seed=10)
    together, state = [], None
    for _ in range(5):
        action, state = agent.predict(observations, state)
        together.append(action)
        observations, *_ = envs.step(action)
    for row in range(3):
        env = DreamEnv(model, observation="state")
        observation, _ = env.reset(seed=10 + row)
        state = None
        for step in range(5):
            action, state = agent.predict(observation, state)
            np.testing.assert_allclose(action, together[step][row], rtol=1e-5)
            observation, *_ = env.step(action)


def test_an_episode_that_starts_forgets_the_one_before() -> None:
    model = noisy()
    agent = MPCAgent(model, CEM(horizon=3, candidates=8, elites=2))
    first, second = (DreamEnv(model, observation="state").reset(seed=seed)[0] for seed in (0, 1))
    fresh, _ = agent.predict(second)
    _, state = agent.predict(np.stack([first, first]))
    again, state = agent.predict(np.stack([second, second]), state, np.array([True, False]))
    np.testing.assert_allclose(again[0], fresh, rtol=1e-5)
    assert again[0] != pytest.approx(again[1], abs=1e-4)
    assert state.step.tolist() == [1, 2]


def test_predict_changes_nothing_it_was_given() -> None:
    model = noisy()
    agent = MPCAgent(model, CEM(horizon=3, candidates=8, elites=2))
    observation, _ = DreamEnv(model, observation="state").reset(seed=0)
    _, state = agent.predict(observation)
    kept = copy.deepcopy(state)
    results = [agent.predict(observation, state)[0].tolist() for _ in range(2)]
    assert results[0] == results[1]
    for before, after in zip(kept, state, strict=True):
        np.testing.assert_array_equal(before, after)


def test_actions_of_a_plan_are_played_out() -> None:
    model = small_dream(TargetMemory(), MOVE)
    agent = MPCAgent(model, CEM(horizon=4), execute=3)
    observation, _ = DreamEnv(model, observation="state").reset(seed=0)
    action, first = agent.predict(observation)
    played, state = [float(action[0])], first
    for _ in range(2):
        action, state = agent.predict(observation, state)
        played.append(float(action[0]))
    assert first.actions.shape == (1, 3, 1)
    assert played == first.actions.flatten().tolist()
    assert len(set(played)) == 3
    action, state = agent.predict(observation, state)
    assert float(action[0]) == float(state.actions[0, 0, 0]) != played[0]
    assert (state.played.tolist(), state.step.tolist()) == ([1], [4])


def test_the_state_seen_in_reality_is_the_one_m_is_in() -> None:
    model = pendulum_model()
    shown, hidden = (LatentObservation(gym.make("Pendulum-v1"), model, observation=k) for k in ("state", "features"))
    observations = [env.reset(seed=4)[0] for env in (shown, hidden)]
    for _ in range(3):
        assert shown.observation_space.contains(observations[0])
        assert observations[0].shape == (3 + 8 + 8,)  # latent, hidden state and cell
        state = model.memory_state(torch.from_numpy(observations[0][None]))
        np.testing.assert_array_equal(model.memory.features(state)[0], observations[1])
        assert torch.equal(state.cell, shown._state.cell)
        observations = [env.step(np.ones(1, np.float32))[0] for env in (shown, hidden)]
    with pytest.raises(ConfigurationError, match=r"states of shape \(1, 18\), expected \(B, 19\)"):
        model.memory_state(torch.zeros(1, 18))


def test_names_say_all_settings() -> None:
    model = small_dream(TargetMemory(), MOVE)
    assert mpc_agent("planner:cem", model).name == "planner:cem,seed=0,execute=1"
    text = "planner:cem,temperature=0.5,common_noise=false,momentum=0,discount=0.9,execute=2,seed=-3"
    agent = mpc_agent(text, model)
    assert agent.planner == CEM(temperature=0.5, common_noise=False, momentum=0.0, discount=0.9)
    assert (agent.seed, agent.execute) == (-3, 2)
    assert agent.name is not None
    assert mpc_agent(agent.name, model).planner == agent.planner
    stairs = small_dream(StairsMemory(), CHOICE)
    assert mpc_agent("planner:mcts,rollout=none", stairs).planner == MCTS()
    assert mpc_agent("planner:mcts,rollout=2", stairs).planner == MCTS(rollout=2)


@dataclass(frozen=True)
class Weighing(CEM):
    """A planner of one's own with a setting that no name says."""

    scheme: ClassVar[str] = "weighing"
    weights: tuple[float, ...] = (1.0,)


def test_settings_that_no_name_says_have_none() -> None:
    model = small_dream(TargetMemory(), MOVE)
    register_planner("weighing", Weighing)
    try:
        assert MPCAgent(model, Weighing(horizon=3)).name == "planner:weighing,horizon=3,seed=0,execute=1"
        assert MPCAgent(model, Weighing(weights=(2.0,))).name is None
        assert not resolve_agent(MPCAgent(model, Weighing(weights=(2.0,))), model).portable
    finally:
        del PLANNERS._added["weighing"]


@dataclass(frozen=True)
class Bare:
    """A planner that can do nothing yet."""

    scheme: ClassVar[str] = "bare"
    horizon: int = 3


@dataclass(frozen=True, kw_only=True)
class Undecided(CEM):
    """One with a setting that always has to be given."""

    scheme: ClassVar[str] = "undecided"
    depth: int


def test_what_is_no_planner_is_not_registered() -> None:
    for scheme, planner, message in (
        ("bare", Bare, "lacks length, plan, check_actions, cold, shifted of Planner"),
        ("undecided", Undecided, "depth of .*Undecided.* has no default"),
        ("mine", Weighing, "scheme is 'weighing'"),
        ("plain", int, "is no dataclass"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            register_planner(scheme, planner)
        assert scheme not in PLANNERS


def test_only_what_has_a_name_is_handed_to_workers() -> None:
    model = small_dream(TargetMemory(), MOVE)
    planner = CEM(terminal_value=lambda features: features[:, 0])
    assert MPCAgent(model, planner).name is None
    assert not resolve_agent(MPCAgent(model, planner), model).portable
    assert resolve_agent(MPCAgent(model, CEM()), model).portable
    with pytest.raises(ConfigurationError, match="MPCAgent cannot be handed to worker processes; use workers=0"):
        evaluate(model, MPCAgent(model, planner), episodes=2, workers=2)
    with pytest.raises(ConfigurationError, match="dreams with another model than it is scored on"):
        evaluate(model, MPCAgent(small_dream(TargetMemory(), MOVE), CEM()), episodes=2, workers=2)


def test_load_agent_takes_the_name_and_a_model(tmp_path: Any) -> None:
    model = pendulum_model()
    model.save(tmp_path)
    for given in (model, tmp_path, str(tmp_path)):
        agent = dreamenv.load_agent(f"planner:mppi,{SMALL}", world_model=given)
        assert isinstance(agent, MPCAgent)
        assert agent.action_space == PENDULUM
        assert agent.observation == "state"
    with pytest.raises(ConfigurationError, match="acts for a world model: give it"):
        load_agent("planner:mppi")
    with pytest.raises(ConfigurationError, match="algo='ppo' is for files of stable-baselines3"):
        load_agent("planner:mppi", algo="ppo", world_model=model)
    with pytest.raises(UnknownDreamError, match=r"no scheme of agents is called 'plan'.*planner:cem"):
        load_agent("plan:mppi", world_model=model)
    with pytest.raises(BundleError, match=r"agent\.safetensors"):
        load_agent(str(tmp_path), world_model=model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("planner:cme", "planner 'cme' is not known. Did you mean cem?"),
        ("planner:", "planner '' is not known. Known: cem, gradient, ilqr, mcts, mppi, shooting"),
        ("planner:cem,horizn=3", "got 'horizn=3', expected SETTING=VALUE of planner 'cem'. Did you mean horizon"),
        ("planner:cem,horizon", r"got 'horizon', expected horizon=VALUE of planner 'cem'\.$"),
        ("planner:cem,horizon=2, horizon=3", "horizon is given twice"),
        ("planner:cem,horizon=long", "got 'horizon=long', expected a whole number"),
        ("planner:cem,discount=much", "got 'discount=much', expected a number$"),
        ("planner:cem,temperature=hot", "expected a number or none"),
        ("planner:cem,common_noise=1", "expected true or false"),
        ("planner:cem,terminal_value=x", "got 'terminal_value=x'"),
        ("planner:cem,horizon=0", "horizon must be an integer of at least 1, got 0"),
        ("planner:cem,execute=13", "execute=13: a plan of 'cem' holds 12 actions"),
        ("planner:cem,execute=0", "execute must be an integer of at least 1"),
        ("planner:mcts", "mcts searches over Discrete actions, got Box"),
    ],
)
def test_bad_names(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mpc_agent(name, small_dream(TargetMemory(), MOVE))


def test_bad_calls() -> None:
    model = noisy()
    agent = MPCAgent(model, CEM(horizon=2, candidates=4, elites=2))
    with pytest.raises(SpaceMismatchError, match=r"observation of shape \(3,\); this agent reads \(5,\)"):
        agent.predict(np.zeros(3, np.float32))
    _, state = agent.predict(np.zeros((2, 5), np.float32))
    with pytest.raises(SpaceMismatchError, match="got 3 observations with a state of 2"):
        agent.predict(np.zeros((3, 5), np.float32), state)
    with pytest.raises(SpaceMismatchError, match="episode_start of 1 rows"):
        agent.predict(np.zeros((2, 5), np.float32), state, np.array([True]))
