"""Snapshots and clones of both forms: what is restored continues bit for bit, and what is cloned is on its own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.types import RealEnvSpec
from tests.fakes import CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model

# Long enough for several blocks of noise and several episodes.
STEPS = 150
FORMS = ["scalar", *(mode.name for mode in AutoresetMode)]


def dream(form: str, model: Any, **options: Any) -> Any:
    if form == "scalar":
        return DreamEnv(model, **options)
    return DreamVectorEnv(model, 3, autoreset_mode=AutoresetMode[form], **options)


def play(env: Any, *, seed: int, steps: int = STEPS) -> list[bytes]:
    """Every byte of `steps` steps under actions of a seed of their own; ended dreams begin anew."""
    space = copy.deepcopy(env.action_space)
    space.seed(seed)
    seen = []
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(space.sample())
        seen.append(b"".join(np.asarray(part).tobytes() for part in (observation, reward, terminated, truncated)))
        ended = np.asarray(terminated | truncated)
        if isinstance(env, DreamEnv) and ended:
            seen.append(env.reset()[0].tobytes())
        elif not isinstance(env, DreamEnv) and env.autoreset_mode == AutoresetMode.DISABLED and ended.any():
            seen.append(env.reset(options={"reset_mask": ended})[0].tobytes())
    return seen


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["noisy", "mdn_rnn"])
def test_a_restored_state_continues_bit_for_bit(form: str, kind: str) -> None:
    model = fake_world_model(NoisyMemory()) if kind == "noisy" else trained_like_world_model()
    env = dream(form, model)
    env.reset(seed=4)
    play(env, seed=0, steps=70)
    snapshot = env.get_state()
    expected = play(env, seed=1)
    env.set_state(snapshot)
    assert play(env, seed=1) == expected
    fresh = dream(form, model)
    fresh.set_state(copy.deepcopy(snapshot))
    assert play(fresh, seed=1) == expected
    assert play(fresh, seed=2) != expected


@pytest.mark.parametrize("form", FORMS)
def test_a_clone_is_independent(form: str) -> None:
    model = trained_like_world_model()
    env, untouched = dream(form, model), dream(form, model)
    for each in (env, untouched):
        each.reset(seed=7)
        play(each, seed=0, steps=40)
    expected = play(untouched, seed=1)
    twin, second = env.clone(), env.clone()
    play(twin, seed=2)
    twin.reset(seed=99)
    twin.close()
    assert play(env, seed=1) == expected
    assert play(second, seed=1) == expected
    assert twin.world_model is env.world_model


@pytest.mark.parametrize("form", FORMS)
def test_a_clone_keeps_the_arguments(form: str) -> None:
    options = {"observation": "latent", "temperature": 1.7, "start": "replay", "render_mode": "rgb_array"}
    env = dream(form, trained_like_world_model(), **options)
    twin = env.clone()
    assert twin.observation_space == env.observation_space
    assert (twin.rollout.temperature, twin.rollout.start, twin.render_mode) == (1.7, "replay", "rgb_array")
    if form != "scalar":
        assert (twin.num_envs, twin.autoreset_mode, twin.max_episode_steps) == (
            env.num_envs,
            env.autoreset_mode,
            env.max_episode_steps,
        )


@pytest.mark.parametrize("form", FORMS)
def test_a_clone_of_a_broken_dream_begins_the_same_next_one(form: str) -> None:
    env = dream(form, fake_world_model(CountingMemory(broken_from=1)))
    env.reset(seed=2)
    with pytest.raises(NonFiniteError):
        env.step(1 if form == "scalar" else [1, 1, 1])
    twin = env.clone()
    for _ in range(5):
        assert np.array_equal(twin.reset()[0], env.reset()[0])


@pytest.mark.parametrize("form", FORMS)
def test_a_snapshot_of_another_environments_dream_is_refused(form: str) -> None:
    """Both may have the same sizes."""
    env = dream(form, trained_like_world_model())
    other = dream(form, trained_like_world_model(real=RealEnvSpec("Acrobot-v1")))
    before = env.reset(seed=0)[0]
    other.reset(seed=0)
    with pytest.raises(ConfigurationError, match="the snapshot is of a dream of Acrobot-v1, this one is of"):
        env.set_state(other.get_state())
    assert np.array_equal(env.rollout.observations(), np.atleast_2d(before))


@pytest.mark.parametrize("form", FORMS)
def test_a_snapshot_of_a_model_of_other_sizes_is_refused(form: str) -> None:
    env, other = dream(form, trained_like_world_model()), dream(form, trained_like_world_model(latent_size=5))
    before = env.reset(seed=0)[0]
    other.reset(seed=0)
    with pytest.raises(ConfigurationError, match="5 latents and 13 features, expected 4 and 12"):
        env.set_state(other.get_state())
    assert np.array_equal(env.rollout.observations(), np.atleast_2d(before))
