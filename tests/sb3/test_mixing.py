"""Mixing: when M is fitted and branches are dreamed, and that an agent learns from them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dreamenv.bundle import StartStates
from dreamenv.envs import LatentObservation
from dreamenv.errors import ConfigurationError, SpaceMismatchError
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.sb3 import Branches, BranchSchedule, MixedReplayBuffer, MixingCallback
from dreamenv.training.recipes.fit_ensemble import ensemble_world_model
from dreamenv.training.refits import REFITS
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.fakes import BOX, CountingMemory, fake_world_model, trained_like_world_model
from tests.sb3.line_env import MOVES, Line, filled


def model_of(memory: MemoryModel[Any], action_space: gym.Space[Any] = MOVES, horizon: int = 8) -> WorldModel:
    starts = StartStates(torch.zeros(1, memory.latent_size))
    vision = IdentityVision(memory.latent_size)
    return WorldModel(vision, memory, RealEnvSpec("Line-v0"), action_space, starts, max_episode_steps=horizon)


def sac(env: Any, **options: Any) -> SAC:
    kept: dict[str, Any] = {
        "replay_buffer_class": MixedReplayBuffer,
        "learning_starts": 40,
        "batch_size": 32,
        "policy_kwargs": {"net_arch": [16, 16]},
        "seed": 1,
        "device": "cpu",
    }
    return SAC("MlpPolicy", env, **(kept | options))


def small_ensemble(env: gym.Env[Any, Any]) -> WorldModel:
    return ensemble_world_model(env, members=3, elites=2, hidden_size=16, layers=1)


def mixing(model: WorldModel, **options: Any) -> MixingCallback:
    kept: dict[str, Any] = {"refit_every": 20, "rollout_batch": 30}
    if isinstance(model.memory, ProbabilisticEnsemble):
        kept["fit_options"] = {"max_epochs": 2}
    return MixingCallback(model, **(kept | options))


def test_the_callback_fits_and_refills_as_real_steps_go_on() -> None:
    env, fits, refills = gym.make("Line-v0"), [], []

    class Seen(MixingCallback):
        def fit(self) -> None:
            fits.append(self.num_timesteps)
            super().fit()

        def rollout(self) -> Branches:
            refills.append((self.num_timesteps, found := super().rollout())[0])
            begins = {float(x) for x in self.buffer.observations[: self.buffer.size()].flatten()}
            assert {float(x) for x in found.observations[:30].flatten()} <= begins, "branches begin at real states"
            assert 30 <= len(found) <= 30 * 3
            return found

    agent = sac(env)
    callback = Seen(small_ensemble(env), refit_every=20, rollout_every=10, rollout_batch=30, schedule=3)
    callback.fit_options = {"max_epochs": 1}
    agent.learn(75, callback=callback)
    assert fits == [40, 60]
    assert refills == [40, 50, 60, 70]
    assert agent.replay_buffer.dream_size == len(agent.replay_buffer._refills[0])


@pytest.mark.parametrize("n_envs", [1, 3])
def test_the_seed_fixes_everything(n_envs: int) -> None:
    weights = []
    for seed in (1, 1, 2):
        envs = make_vec_env("Line-v0", n_envs=n_envs, seed=0)
        agent = sac(envs, seed=seed, learning_starts=30)
        agent.learn(60, callback=mixing(small_ensemble(gym.make("Line-v0")), schedule=2, seed=seed))
        weights.append(torch.cat([part.detach().flatten() for part in agent.policy.parameters()]))
        assert agent.replay_buffer.dream_size > 0
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_states_of_a_memory_are_followed() -> None:
    """Branches of an MDN-RNN begin in the hidden states that the twin's own features show."""
    model = trained_like_world_model(image=False, real=RealEnvSpec("Own-v0"), latent_size=3, action_space=MOVES)
    pendulum = model_env(model)
    agent = sac(DummyVecEnv([lambda: pendulum, lambda: model_env(model)]), learning_starts=30)
    callback = mixing(model, schedule=2)
    agent.learn(80, callback=callback)
    buffer = agent.replay_buffer
    assert agent.observation_space.shape == (3 + 8,)
    rows = buffer.size()
    places = buffer._followed.places()
    assert len(places[0]) == 2 * rows
    states = buffer._followed.at(*places)
    np.testing.assert_allclose(states.hidden.numpy(), buffer.observations[places][:, 3:], atol=1e-5)
    np.testing.assert_array_equal(states.latent.numpy(), buffer.observations[places][:, :3])
    assert buffer.dones[:rows].sum() > 2, "the hidden states of several episodes were compared"
    assert states.cell.abs().sum() > 0
    found = callback.rollout()
    assert found.observations.shape[1] == 11
    assert {tuple(row) for row in found.observations[:30].round(4).tolist()} <= {
        tuple(row) for row in buffer.observations[:rows].reshape(-1, 11).round(4).tolist()
    }


def test_a_second_call_of_learn_begins_new_episodes() -> None:
    """Stable-Baselines3 resets the environments although their episodes have not ended."""
    model = trained_like_world_model(image=False, real=RealEnvSpec("Own-v0"), latent_size=3, action_space=MOVES)
    agent = sac(DummyVecEnv([lambda: model_env(model)]), learning_starts=100)
    for _ in range(3):
        agent.learn(7, callback=mixing(model, schedule=2))
    buffer = agent.replay_buffer
    states = buffer._followed.at(*buffer._followed.places())
    np.testing.assert_allclose(states.hidden.numpy(), buffer.observations[: buffer.size(), 0, 3:], atol=1e-5)


def test_a_dream_that_branches_off_a_followed_state_draws_its_own_dropout() -> None:
    """What the memory drew once for the real episode is drawn anew for each branch."""
    memory = MDNRNN(3, MOVES, hidden_size=16, mixtures=2, dropout=0.5, dropout_in_dream=True)
    model = model_of(memory.eval(), MOVES)
    callback = mixing(model, rollout_batch=20)
    agent = sac(DummyVecEnv([lambda: model_env(model)]), learning_starts=10)
    agent.learn(12, callback=callback)
    states = agent.replay_buffer.start_states(20, torch.Generator().manual_seed(0))
    assert len(torch.unique(states.dropout, dim=0)) > 10
    assert (
        len(torch.unique(agent.replay_buffer._followed.at(*agent.replay_buffer._followed.places()).dropout, dim=0)) < 4
    )


def test_a_markov_memory_begins_at_any_observation() -> None:
    """Its states are not kept: moments from before it was attached are as good."""
    buffer = filled(5)
    model = small_ensemble(gym.make("Line-v0"))
    assert buffer.attach(model) == "features"
    assert buffer._followed is None
    states = buffer.start_states(50, torch.Generator())
    assert {float(x) for x in states.latent[:, 0]} <= {10.0 * i + e for i in range(5) for e in range(2)}
    late = filled(5)
    late.attach(model_of(CountingMemory(1)))
    with pytest.raises(ConfigurationError, match="no real transitions to branch from"):
        late.start_states(1, torch.Generator())


def test_observations_that_do_not_hold_the_embedding_are_refused() -> None:
    class Hidden(CountingMemory):
        def embedding_of(self, seen: torch.Tensor, kind: str) -> None:
            return None

    with pytest.raises(ConfigurationError, match="latent of Hidden do not hold what it was shown"):
        filled(2).attach(model_of(Hidden(1)))


def model_env(model: WorldModel) -> gym.Env[Any, Any]:
    """A short Pendulum seen through `model`."""
    env = gym.make("Pendulum-v1", max_episode_steps=9)
    return LatentObservation(env, model)


def test_a_refit_may_be_given() -> None:
    model = fake_world_model(CountingMemory(1), action_space=MOVES)
    seen: list[int] = []

    def refit(transitions: Any) -> dict[str, float]:
        seen.append(len(transitions))
        return {"loss": 1.0}

    sac(gym.make("Line-v0")).learn(65, callback=mixing(model, refit=refit))
    assert seen == [40, 60]


def test_a_memory_of_ones_own_has_a_refit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def refit(memory: Any, transitions: Any, options: Any, *, seed: int) -> dict[str, float]:
        seen.append((type(memory), len(transitions), dict(options), seed))
        return {"loss": 1.0}

    monkeypatch.setattr(REFITS, "_added", {"counting": refit})
    model = fake_world_model(CountingMemory(1), action_space=MOVES)
    sac(gym.make("Line-v0")).learn(65, callback=mixing(model, fit_options={"speed": 3}, seed=7))
    assert seen == [(CountingMemory, 40, {"speed": 3}, 7), (CountingMemory, 60, {"speed": 3}, 7)]


@pytest.mark.parametrize("algorithm", [DQN, TD3])
def test_other_algorithms(algorithm: type[DQN] | type[TD3]) -> None:
    discrete = algorithm is DQN
    env = gym.wrappers.TimeLimit(Line(discrete=discrete), 8)
    model = model_of(CountingMemory(1), env.action_space)
    options: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "seed": 0, "device": "cpu"}
    if discrete:
        options["exploration_final_eps"] = 0.8
    agent = algorithm("MlpPolicy", env, replay_buffer_class=MixedReplayBuffer, **options)
    callback = mixing(model, explore=None if discrete else 0.3)
    agent.learn(45, callback=callback)
    found = callback.rollout()
    moved = (found.next_observations - found.observations)[:, 0]
    stored = found.actions[:, 0]
    np.testing.assert_allclose(moved, stored if discrete else 2 * stored, atol=1e-5)
    assert len(set(stored.tolist())) > 2, "they explore in the dream"


def test_normalised_observations() -> None:
    envs = VecNormalize(make_vec_env("Line-v0", n_envs=2, seed=0))
    agent = sac(envs, replay_buffer_kwargs={"real_fraction": 0.0})
    callback = mixing(small_ensemble(gym.make("Line-v0")))
    agent.learn(60, callback=callback)
    buffer = agent.replay_buffer
    dreamed = {round(float(x), 4) for x in envs.normalize_obs(buffer._dreamed.observations).flatten()}
    assert {round(float(x), 4) for x in buffer.sample(50, envs).observations.flatten()} <= dreamed


def test_bad_input() -> None:
    model = model_of(CountingMemory(1))
    with pytest.raises(ConfigurationError, match=r"up to 9 steps; the model's horizon is 8 steps"):
        mixing(model, schedule=BranchSchedule(1, 9, 0, 100))
    with pytest.raises(ConfigurationError, match=r"schedule must be a BranchSchedule or an int, got 2\.5"):
        mixing(model, schedule=2.5)
    with pytest.raises(ConfigurationError, match="seed must be at least 0, got -1"):
        mixing(model, seed=-1)
    with pytest.raises(ConfigurationError, match="at least 1"):
        mixing(model, rollout_batch=0)
    with pytest.raises(ConfigurationError, match="explore"):
        mixing(model, explore=-1.0)
    with pytest.raises(ConfigurationError, match="explore must be a finite number"):
        mixing(model, explore=float("nan"))
    with pytest.raises(ConfigurationError, match="a probability for Discrete actions; got 7"):
        mixing(model_of(CountingMemory(1), action_space=gym.spaces.Discrete(3)), explore=7.0)
    with pytest.raises(ConfigurationError, match="temperature must be a finite number of at least 0"):
        mixing(model, temperature=-1.0)
    with pytest.raises(ConfigurationError, match="fit_options are for a registered refit.*'counting'"):
        mixing(model, fit_options={"max_epochs": 2})
    with pytest.raises(ConfigurationError, match="fit_options are for a registered refit"):
        MixingCallback(small_ensemble(gym.make("Line-v0")), refit=lambda _: {}, fit_options={"max_epochs": 2})
    env = gym.make("Line-v0")
    with pytest.raises(ConfigurationError, match="replay_buffer_class=MixedReplayBuffer"):
        SAC("MlpPolicy", env, device="cpu").learn(2, callback=mixing(model))
    with pytest.raises(SpaceMismatchError, match="features or 3 latents"):
        sac(env).learn(2, callback=mixing(fake_world_model(action_space=MOVES)))
    with pytest.raises(SpaceMismatchError, match="actions of the environment"):
        sac(env).learn(2, callback=mixing(fake_world_model(CountingMemory(1), action_space=BOX)))
    callback = mixing(model)
    agent = sac(env)
    callback.init_callback(agent)
    with pytest.raises(ConfigurationError, match="no real transitions to branch from"):
        callback.rollout()
    ensemble = mixing(small_ensemble(env))
    ensemble.init_callback(agent)
    with pytest.raises(ConfigurationError, match="0 transitions leave"):
        ensemble.fit()


@pytest.mark.slow
def test_an_agent_learns_from_dreams_alone() -> None:
    """No real transition is in its batches: 200 real steps and the dreams that branch off them are enough."""
    env = gym.make("Line-v0")
    options: dict[str, Any] = {"learning_rate": 5e-3, "tau": 0.05, "gamma": 0.9, "gradient_steps": 4}
    agent = sac(env, replay_buffer_kwargs={"real_fraction": 0.0}, **options)
    before = mean_return(agent, env)
    fit_options = {"max_epochs": 40, "batch_size": 32, "learning_rate": 5e-3}
    agent.learn(200, callback=mixing(small_ensemble(env), rollout_batch=400, fit_options=fit_options))
    assert before < -4
    assert mean_return(agent, env) > -1.5, "the best return is 0"


def mean_return(agent: SAC, env: gym.Env[Any, Any]) -> float:
    """Of six episodes of the deterministic policy."""
    total = 0.0
    for seed in range(6):
        seen, _ = env.reset(seed=seed)
        ended = False
        while not ended:
            seen, reward, terminated, truncated, _ = env.step(agent.predict(seen, deterministic=True)[0])
            total += float(reward) / 6
            ended = terminated or truncated
    return total
