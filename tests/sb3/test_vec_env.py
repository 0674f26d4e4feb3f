from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import dreamenv
from dreamenv import registry
from dreamenv.envs import DreamEnv, DreamVectorEnv, VectorDisagreementBonus
from dreamenv.errors import ConfigurationError, InvalidActionError, StepError, UnknownDreamError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.noise.base import seeded_weights
from dreamenv.sb3 import DreamVecEnv
from tests.fakes import BOX, DISCRETE, CountingMemory, NoisyMemory, fake_world_model, write_registry
from tests.fakes import trained_like_world_model as small_model

ROWS = 3


@pytest.mark.parametrize("action_space", [DISCRETE, BOX])
def test_it_behaves_as_a_dummy_vec_env_of_scalar_dreams(action_space: gym.Space[Any]) -> None:
    model = fake_world_model(NoisyMemory(death=0.05), action_space=action_space, max_episode_steps=9)
    ours = DreamVecEnv(model, ROWS)
    theirs = DummyVecEnv([lambda: TimeLimit(DreamEnv(model), 9)] * ROWS)
    assert ours.seed(4) == theirs.seed(4) == [4, 5, 6]
    seeded = ours.reset()
    np.testing.assert_array_equal(seeded, theirs.reset())
    assert ours.reset_infos == theirs.reset_infos
    action_space.seed(0)
    ends = cuts = 0
    for _ in range(120):
        actions = np.stack([action_space.sample() for _ in range(ROWS)])
        # theirs passes on whatever it is given; an algorithm of theirs would count from 0
        mine, other = ours.step(actions - getattr(action_space, "start", 0)), theirs.step(actions)
        for part, expected in zip(mine[:3], other[:3], strict=True):
            assert part.dtype == expected.dtype
            np.testing.assert_array_equal(part, expected)
        for info, expected in zip(mine[3], other[3], strict=True):
            assert info.keys() == expected.keys()
            last, expected_last = info.pop("terminal_observation", None), expected.pop("terminal_observation", None)
            np.testing.assert_array_equal(last, expected_last)
            assert info == expected
            assert type(info["TimeLimit.truncated"]) is bool
            cuts += info["TimeLimit.truncated"]
        ends += int(mine[2].sum())
    assert ends > cuts > 0
    # Seeds are used once: without new ones the next reset begins other dreams.
    unseeded = ours.reset()
    np.testing.assert_array_equal(unseeded, theirs.reset())
    assert not np.array_equal(unseeded, seeded)
    np.testing.assert_array_equal(ours.seed(4), theirs.seed(4))
    np.testing.assert_array_equal(ours.reset(), seeded)
    np.testing.assert_array_equal(theirs.reset(), seeded)


def test_an_algorithm_acts_in_a_space_that_does_not_begin_at_0() -> None:
    env = DreamVecEnv(fake_world_model(NoisyMemory(), action_space=gym.spaces.Discrete(3, start=-1)), 2)
    assert env.action_space == gym.spaces.Discrete(3)
    PPO("MlpPolicy", env, n_steps=4, batch_size=8, n_epochs=1).learn(8)


def test_a_truncation_at_a_termination_is_a_termination() -> None:
    env = DreamVecEnv(fake_world_model(CountingMemory(lifetime=3), max_episode_steps=3), 2)
    env.reset()
    for _ in range(3):
        _, _, dones, infos = env.step(np.array([1, 1]))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]
    assert [info["termination_probability"] for info in infos] == [1.0, 1.0]


def test_ids_and_folders(tmp_path: Path) -> None:
    name = "DreamTestSb3-v0"
    path = write_registry(tmp_path, name, small_model())
    dreamenv.register(path)
    try:
        env = DreamVecEnv(name, num_envs=2, observation="latent")
        assert env.env.rollout.temperature == 1.25
        assert env.env.spec is not None
        assert env.observation_space.shape == (4,)
        assert DreamVecEnv(tmp_path / "bundle", 2).env.rollout.temperature == 1.1
        assert DreamVecEnv(str(tmp_path / "bundle")).num_envs == 1
        with pytest.raises(ConfigurationError, match=r"Its dream is DreamTestSb3-v0"):
            DreamVecEnv("LatentTestSb3-v0", 2)
        with pytest.raises(UnknownDreamError, match="Did you mean DreamTestSb3-v0"):
            DreamVecEnv("DreamTestSb-v0", 2)
    finally:
        for registered in (name, "LatentTestSb3-v0"):
            del gym.registry[registered]
        del registry.entries()[name]


def test_what_else_the_memory_says_of_a_step_is_told_in_every_row() -> None:
    with seeded_weights(0):
        memory = ProbabilisticEnsemble(3, BOX, members=3, elites=2, hidden_size=8, layers=1)
    model = fake_world_model(memory, action_space=BOX, max_episode_steps=2)
    ours, batch = DreamVecEnv(model, ROWS), DreamVectorEnv(model, ROWS, autoreset_mode="SameStep")
    ours.seed(4)
    ours.reset()
    batch.reset(seed=[4, 5, 6])
    for ended in (False, True):
        actions = np.stack([BOX.sample() for _ in range(ROWS)])
        _, _, dones, infos = ours.step(actions)
        *_, told = batch.step(actions)
        assert (dones == ended).all()
        expected = (told["final_info"] if ended else told)["disagreement"]
        assert [info["disagreement"] for info in infos] == expected.tolist()
        assert (expected > 0).all()
    with pytest.raises(ConfigurationError, match=r"got VectorDisagreementBonus; .*world_model\.with_bonus"):
        DreamVecEnv(VectorDisagreementBonus(batch))  # type: ignore[arg-type]


def test_bad_calls() -> None:
    model = fake_world_model()
    with pytest.raises(ConfigurationError, match="leave it out"):
        DreamVecEnv(model, 2, autoreset_mode="NextStep")
    with pytest.raises(ConfigurationError, match="NEXT_STEP, expected SAME_STEP"):
        DreamVecEnv(DreamVectorEnv(model, 2))
    with pytest.raises(ConfigurationError, match="got a single environment; DreamVecEnv takes"):
        DreamVecEnv(DreamEnv(model))  # type: ignore[arg-type]
    given = DreamVectorEnv(model, 2, autoreset_mode="SameStep")
    with pytest.raises(ConfigurationError, match="num_envs"):
        DreamVecEnv(given, 3)
    env = DreamVecEnv(given)
    with pytest.raises(StepError, match="before reset"):
        env.step(np.array([1, 1]))
    env.reset()
    with pytest.raises(StepError, match="step_async"):
        env.step_wait()
    with pytest.raises(InvalidActionError):
        env.step(np.array([1, 9]))


def test_attributes_and_methods_are_those_of_the_batch() -> None:
    env = DreamVecEnv(fake_world_model(), 3)
    assert env.get_attr("num_envs") == [3, 3, 3]
    assert env.get_attr("num_envs", indices=[0, 2]) == [3, 3]
    assert env.get_attr("num_envs", indices=1) == [3]
    assert not env.has_attr("no_such_attribute")
    env.set_attr("max_episode_steps", 2)
    with pytest.raises(ConfigurationError, match="shared by all 3"):
        env.set_attr("max_episode_steps", 5, indices=0)
    env.set_attr("temperature", 0.25)
    assert env.env.rollout.temperature == 0.25
    env.reset()
    env.step(np.ones(3, int))
    assert env.step(np.ones(3, int))[2].all()
    snapshot = env.env_method("get_state", indices=0)[0]
    first = env.step(np.ones(3, int))[0]
    env.env_method("set_state", snapshot)
    np.testing.assert_array_equal(env.step(np.ones(3, int))[0], first)
    assert env.env_is_wrapped(gym.Wrapper) == [False] * 3


def test_rendering() -> None:
    env = DreamVecEnv(fake_world_model(image=True), 4, render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array"
    assert [image.shape for image in env.get_images() if image is not None] == [(384, 384, 3)] * 4
    picture = env.render()
    assert picture is not None
    assert picture.shape == (768, 768, 3)
    assert env.metadata["render_fps"] == env.env.metadata["render_fps"], "films are as fast as the real environment"
    assert DreamVecEnv(fake_world_model(), 2).get_images() == [None, None]
    env.close()


def test_ppo_learns_in_the_dream() -> None:
    model = fake_world_model(CountingMemory(), action_space=BOX, max_episode_steps=8)
    env = VecMonitor(DreamVecEnv(model, 16))
    agent = PPO(
        "MlpPolicy", env, n_steps=32, batch_size=128, n_epochs=4, learning_rate=3e-3, seed=0, device="cpu", gamma=0.5
    )
    before, _ = evaluate_policy(agent, env, n_eval_episodes=16, deterministic=False)
    agent.learn(6_000)
    after, _ = evaluate_policy(agent, env, n_eval_episodes=16)
    best = 36 + 8 * 3  # the ages 1 to 8 and the largest action at each step
    assert after > before
    assert after > 0.9 * best
