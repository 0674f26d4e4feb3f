from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.data.preprocess import PreprocessedEnv
from dreamenv.envs import DreamEnv, LatentEnv, LatentObservation
from dreamenv.errors import InvalidActionError, SpaceMismatchError, StepError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.fakes import DISCRETE, CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model

PENDULUM = RealEnvSpec("Pendulum-v1", action_repeat=2, max_episode_steps=12)
TORQUE = spaces.Box(-2.0, 2.0, (1,), np.float32)


class Ramp(gym.Env[Any, Any]):
    """Observations `[k, k, k]` in frame k; all zeros with the end, after 5 frames."""

    observation_space = spaces.Box(-100, 100, (3,), np.float32)
    action_space = DISCRETE

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.frame = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.frame += 1
        ended = self.frame == 5
        observation = np.full(3, 0 if ended else self.frame, np.float32)
        return observation, 1.0, ended, False, {"frame": self.frame}


def pendulum_model(observes: str = "counting") -> WorldModel:
    if observes == "counting":
        return fake_world_model(CountingMemory(), action_space=TORQUE)
    return trained_like_world_model(action_space=TORQUE, image=False, real=PENDULUM, latent_size=3)


@pytest.mark.parametrize("kind", ["features", "latent"])
def test_spaces_and_info_are_those_of_the_dream(kind: str) -> None:
    model = pendulum_model("mdn")
    real, dream = LatentObservation(gym.make("Pendulum-v1"), model, observation=kind), DreamEnv(model, observation=kind)
    assert real.observation_space == dream.observation_space
    assert real.action_space == dream.action_space
    action = np.zeros(1, np.float32)
    results = []
    for env in (real, dream):
        first, _ = env.reset(seed=0)
        assert env.observation_space.contains(first)
        results.append(env.step(action))
        assert env.observation_space.contains(results[-1][0])
    for ours, theirs in zip(*results, strict=True):
        assert type(ours) is type(theirs)
    assert results[1][4].keys() <= results[0][4].keys()
    assert results[0][4]["real_frames"] == 2


def test_features_are_those_of_v_and_m_fed_with_what_was_seen() -> None:
    model = pendulum_model("mdn")
    env = LatentObservation(gym.make("Pendulum-v1"), model)
    plain = PreprocessedEnv(gym.make("Pendulum-v1"), PENDULUM)
    seen, _ = plain.reset(seed=3)
    observed, _ = env.reset(seed=3)
    generator = torch.Generator()
    with torch.no_grad():
        state = model.memory.initial(torch.from_numpy(seen[None]), noise=generator)
        for torque in (0.5, -1.0, 2.0):
            np.testing.assert_allclose(observed, model.memory.features(state)[0].numpy(), atol=1e-6)
            action = np.array([torque], np.float32)
            seen, reward, *_ = plain.step(action)
            latent = torch.from_numpy(seen[None])
            state, prediction = model.memory.observe(state, torch.from_numpy(action[None]), latent, noise=generator)
            observed, ours, _, _, info = env.step(action)
            assert ours == pytest.approx(reward)
            assert info["predicted_reward"] == pytest.approx(float(prediction.reward[0]), abs=1e-6)
            assert info["termination_probability"] == pytest.approx(float(prediction.termination_probability[0]))


@pytest.mark.parametrize("drop", [True, False])
def test_a_meaningless_last_frame_reaches_neither_v_nor_m(drop: bool) -> None:
    model = fake_world_model(CountingMemory())
    model.real = RealEnvSpec("Ramp-v0", action_repeat=2, drop_terminal_observation=drop)
    env = LatentObservation(Ramp(), model)
    assert env.reset(seed=0)[0].tolist() == [0, 0, 0, 0, 0]
    assert env.step(1)[0].tolist() == [2, 2, 2, 1, 0]
    assert env.step(1)[0].tolist() == [4, 4, 4, 2, 0]
    observation, reward, terminated, _, info = env.step(1)
    assert terminated
    assert reward == 1.0
    assert info["real_frames"] == 1
    assert info["frame"] == 5
    assert observation.tolist() == ([4, 4, 4, 2, 0] if drop else [0, 0, 0, 3, 0])
    assert info["predicted_reward"] == 1 + 3


@pytest.mark.parametrize("observes", ["ensemble", "counting"])
def test_m_is_not_asked_where_nobody_wants_to_know(observes: str) -> None:
    """Only one that remembers nothing: what the agent sees stays the same."""
    ensemble = ProbabilisticEnsemble(3, TORQUE, members=3, elites=2, hidden_size=4, layers=1).eval()
    model = fake_world_model(ensemble, action_space=TORQUE) if observes == "ensemble" else pendulum_model(observes)
    told, silent = (LatentObservation(gym.make("Pendulum-v1"), model, predicts=predicts) for predicts in (True, False))
    assert told.reset(seed=3)[0].tolist() == silent.reset(seed=3)[0].tolist()
    for action in np.linspace(-2, 2, 5, dtype=np.float32):
        (seen, reward, *_, info), (ours, our_reward, *_, our_info) = (env.step([action]) for env in (told, silent))
        assert seen.tolist() == ours.tolist()
        assert reward == our_reward
        assert "predicted_reward" in info
        assert ("predicted_reward" in our_info) == (observes == "counting")
        assert our_info["real_frames"] == info["real_frames"]


def test_seeds_fix_the_real_env_and_the_draws_of_m() -> None:
    def play(seed: int) -> list[float]:
        env = LatentObservation(gym.make("Pendulum-v1"), fake_world_model(NoisyMemory(), action_space=TORQUE))
        numbers = env.reset(seed=seed)[0].tolist()
        for _ in range(20):
            numbers += env.step(np.ones(1, np.float32))[0].tolist()
        return numbers + env.reset()[0].tolist()

    assert play(1) == play(1)
    assert play(1) != play(2)


def test_observations_share_no_memory() -> None:
    env = LatentObservation(Ramp(), fake_world_model(), observation="latent")
    first, _ = env.reset(seed=0)
    second = env.step(1)[0]
    second += 50
    assert first.tolist() == [0, 0, 0]
    assert env.step(1)[0].tolist() == [4, 4, 4]


def test_an_env_that_is_preprocessed_is_not_preprocessed_again() -> None:
    inner = gym.wrappers.TimeLimit(PreprocessedEnv(Ramp(), RealEnvSpec("Ramp-v0")), 3)
    env = LatentObservation(inner, fake_world_model())
    env.reset(seed=0)
    assert env.step(1)[4]["real_frames"] == 1


def test_mismatched_spaces_are_shown_side_by_side() -> None:
    with pytest.raises(SpaceMismatchError, match=r"Box\(-2\.0, 2\.0.*Discrete\(4"):
        LatentObservation(gym.make("Pendulum-v1"), fake_world_model())
    with pytest.raises(SpaceMismatchError, match=r"observations of the environment.*\(2,\)"):
        LatentObservation(gym.make("Pendulum-v1"), fake_world_model(CountingMemory(2), action_space=TORQUE))


def test_bad_calls() -> None:
    env = LatentObservation(Ramp(), fake_world_model())
    with pytest.raises(StepError, match="before reset"):
        env.step(1)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match="got action 9"):
        env.step(9)


def test_a_latent_env_is_its_own_base_and_renders_the_real_one() -> None:
    env = LatentEnv(pendulum_model("mdn"), render_mode="rgb_array")
    assert env.unwrapped is env
    env.reset(seed=0)
    frame = env.render()
    assert frame.shape == (500, 500, 3)
    steps = 0
    truncated = False
    while not truncated:
        truncated = env.step(np.zeros(1, np.float32))[3]
        steps += 1
    assert steps == 6  # 12 real frames
    env.close()


def test_pictures_are_v_s_reconstructions() -> None:
    pytest.importorskip("Box2D")
    action_space = gym.make("CarRacing-v3").action_space
    env = LatentEnv(trained_like_world_model(action_space=action_space), observation="pixels")
    picture, _ = env.reset(seed=0)
    assert picture.shape == (64, 64, 3)
    assert picture.dtype == np.uint8
    latent = env.real._embedding
    assert np.array_equal(picture, env.world_model.vision.decode_uint8(latent)[0].detach().numpy())
    env.close()
