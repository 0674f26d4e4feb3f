"""A dream's id is exchanged for that of its twin: the same arguments, alone and as a vector."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import dreamenv
from dreamenv import registry
from dreamenv.envs import DreamEnv, DreamVectorEnv, LatentEnv, latent_vector_env
from dreamenv.errors import ConfigurationError
from dreamenv.types import RealEnvSpec
from tests.fakes import trained_like_world_model, write_registry

DREAM, TWIN = "DreamTestSwing-v0", "LatentTestSwing-v0"


@pytest.fixture(scope="module", autouse=True)
def swing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A small model of Pendulum, registered for the tests of this file."""
    torque = gym.spaces.Box(-2.0, 2.0, (1,), np.float32)
    real = RealEnvSpec("Pendulum-v1", action_repeat=2)
    model = trained_like_world_model(action_space=torque, image=False, real=real, latent_size=3)
    path: Path = write_registry(tmp_path_factory.mktemp("swing"), DREAM, model)
    assert dreamenv.register(path) == [DREAM, TWIN]
    yield
    del registry.entries()[DREAM]
    for name in (DREAM, TWIN):
        del gym.registry[name]


def test_a_twin_takes_the_dreams_arguments_and_says_which_have_no_effect() -> None:
    dreaming = {
        "temperature": 1.2, "start": "replay", "termination": "cut", "precision": "float32", "compiled": False,
        "max_disagreement": 0.5,
    }  # fmt: skip
    with pytest.warns(
        UserWarning, match="temperature, start, termination, precision, compiled, max_disagreement: no effect"
    ):
        gym.make(TWIN, observation="latent", **dreaming).close()
    scalar, vector = (inspect.signature(form).parameters.keys() for form in (LatentEnv, latent_vector_env))
    assert inspect.signature(DreamEnv).parameters.keys() <= scalar
    assert inspect.signature(DreamVectorEnv).parameters.keys() <= scalar | vector
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gym.make(TWIN).close()


def test_it_is_said_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        gym.make_vec(TWIN, num_envs=3, temperature=1.2).close()
    assert [str(item.message).partition(":")[0] for item in caught] == ["temperature"]


def test_vectors_of_twins_take_the_arguments_of_vectors_of_dreams() -> None:
    arguments: dict[str, Any] = {"num_envs": 2, "observation": "latent", "autoreset_mode": "SameStep"}
    twins = gym.make_vec(TWIN, **arguments, max_episode_steps=2)
    dreams = gym.make_vec(DREAM, **arguments)
    assert twins.single_observation_space == dreams.single_observation_space
    assert twins.metadata["autoreset_mode"] == dreams.metadata["autoreset_mode"] == gym.vector.AutoresetMode.SAME_STEP
    alone = gym.make(TWIN, observation="latent")
    observations, _ = twins.reset(seed=7)
    assert np.array_equal(observations[1], alone.reset(seed=8)[0])
    push = np.ones((2, 1), np.float32)
    assert not twins.step(push)[3].any()
    _, rewards, _, truncated, infos = twins.step(push)
    assert truncated.all()
    alone.step(push[1])
    final, reward, *_ = alone.step(push[1])
    assert np.array_equal(infos["final_obs"][1], final)
    assert rewards[1] == reward
    with pytest.raises(ConfigurationError, match="autoreset_mode='Never' is not known"):
        gym.make_vec(TWIN, num_envs=1, autoreset_mode="Never")
    twins.close()
    alone.close()


def test_without_a_limit_of_its_own_a_vector_of_twins_takes_that_of_the_real_environment() -> None:
    twins = gym.make_vec(TWIN, num_envs=1)
    twins.reset(seed=0)
    steps = 1
    while not twins.step(np.zeros((1, 1), np.float32))[3].any():
        steps += 1
    assert steps == 100  # 200 real frames, two an action
