"""Agents that explore the real environment, seeing it through a world model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamenv.agents.controller import LinearController
from dreamenv.agents.exploration import FACTORIES, agent_with_noise, random_linear
from dreamenv.agents.population import weight_shape
from dreamenv.agents.resolve import load_agent
from dreamenv.agents.saved import save_agent
from dreamenv.data.collect import collect, record_episode
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.explore import Exploration
from dreamenv.data.preprocess import make_real_env
from dreamenv.envs import LatentObservation
from dreamenv.errors import ConfigurationError, SpaceMismatchError, UnknownDreamError
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.fakes import trained_like_world_model

REAL = {"box": RealEnvSpec("Pendulum-v1", max_episode_steps=20), "discrete": RealEnvSpec("CartPole-v1")}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write_model(folder: Path, kind: str, *, seed: int = 0) -> str:
    """A bundle with an agent of random weights in it."""
    env = make_real_env(REAL[kind])
    size = env.observation_space.shape[0]  # type: ignore[index]
    model = trained_like_world_model(action_space=env.action_space, image=False, real=REAL[kind], latent_size=size)
    model.save(folder)
    weights = 0.3 * rng(seed).normal(size=weight_shape(model))
    save_agent(LinearController(weights, model.observation_space(), env.action_space), folder)
    env.close()
    return str(folder)


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_without_noise_it_acts_as_in_the_latent_twin(tmp_path: Path, kind: str) -> None:
    where = write_model(tmp_path, kind, seed=2)
    env = make_real_env(REAL[kind])
    actor = agent_with_noise(env.action_space, rng(), world_model=where, agent=where, probability=(0, 0))
    episode = record_episode(env, actor, seed=4)
    model = WorldModel.load(where)
    twin = LatentObservation(make_real_env(REAL[kind]), model)
    agent = load_agent(where)
    observation, _ = twin.reset(seed=4)
    for action in episode.actions:
        expected, _ = agent.predict(observation)
        np.testing.assert_allclose(action, expected, rtol=1e-5, atol=1e-6)
        observation, *_ = twin.step(action)
    assert episode.policy == "agent+noise(0.00)"
    assert len({tuple(np.atleast_1d(a)) for a in episode.actions.tolist()}) > 1


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_noise_changes_the_actions_within_the_space(tmp_path: Path, kind: str) -> None:
    where = write_model(tmp_path, kind)
    env = make_real_env(REAL[kind])
    plain, noisy = (
        record_episode(
            env, agent_with_noise(env.action_space, rng(1), world_model=where, agent=where, probability=(p, p)), seed=4
        ).actions
        for p in (0, 1)
    )
    count = min(len(plain), len(noisy))
    assert not np.array_equal(plain[:count], noisy[:count])
    assert all(env.action_space.contains(action) for action in noisy)


@pytest.mark.parametrize("kind", ["box", "discrete"])
def test_random_linear_controllers_differ_by_episode(tmp_path: Path, kind: str) -> None:
    where = write_model(tmp_path, kind)
    env = make_real_env(REAL[kind])
    found = []
    for seed in (0, 1, 1):
        actor = random_linear(env.action_space, rng(seed), world_model=where, scale=(0.5, 1.0))
        episode = record_episode(env, actor, seed=4)
        assert episode.policy.startswith("random_linear")
        assert all(env.action_space.contains(action) for action in episode.actions)
        found.append(episode.actions)
    assert np.array_equal(found[1], found[2])
    assert not np.array_equal(found[0], found[1])


@pytest.mark.integration
def test_agents_collect_in_worker_processes(tmp_path: Path) -> None:
    where = write_model(tmp_path / "bundle", "discrete")
    explore = [
        Exploration("agent", 1.0, {"world_model": where, "agent": where}),
        Exploration("random_linear", 1.0, {"world_model": where}),
    ]
    for workers in (0, 1):
        collect(
            REAL["discrete"], tmp_path / str(workers), explore=explore, episodes=4, workers=workers, factories=FACTORIES
        )
    one, other = (EpisodeStore(tmp_path / name) for name in ("0", "1"))
    assert [file.read_bytes() for file in one.files()] == [file.read_bytes() for file in other.files()]
    assert {episode.policy.split("+")[0] for episode in one} == {"agent", "random_linear"}


def test_a_bundle_written_anew_is_loaded_anew(tmp_path: Path) -> None:
    """A loop of collecting and fitting writes to one place, in one process."""
    where = write_model(tmp_path, "box")
    env = make_real_env(REAL["box"])

    def first_action() -> Any:
        actor = agent_with_noise(env.action_space, rng(), world_model=where, agent=where, probability=(0, 0))
        return record_episode(env, actor, seed=4, max_steps=1).actions

    before = first_action()
    assert np.array_equal(first_action(), before)
    write_model(tmp_path, "box", seed=1)
    os.utime(tmp_path / "agent.safetensors", ns=(5, 5))
    assert not np.array_equal(first_action(), before)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    where = write_model(tmp_path, "box")
    other = make_real_env(REAL["discrete"]).action_space
    with pytest.raises(SpaceMismatchError, match="action spaces differ"):
        agent_with_noise(other, rng(), world_model=where, agent=where)
    with pytest.raises(UnknownDreamError, match="Did you mean"):
        agent_with_noise(other, rng(), world_model="DreamDom-v0", agent=where)
    with pytest.raises(ConfigurationError, match="scale"):
        random_linear(other, rng(), world_model=where, scale=(0.3, 0.1))


def test_nothing_global_is_drawn_from(tmp_path: Path) -> None:
    where = write_model(tmp_path, "box")
    env = make_real_env(REAL["box"])
    actor = agent_with_noise(env.action_space, rng(), world_model=where, agent=where)
    before = torch.get_rng_state()
    record_episode(env, actor, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
