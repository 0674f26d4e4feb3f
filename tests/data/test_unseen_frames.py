"""Leaving frames undrawn changes nothing but the time."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamenv import registry
from dreamenv.data.preprocess import PreprocessedEnv, make_real_env
from dreamenv.data.unseen_frames import UnseenFrames

CAR = registry.find("DreamCarRacing-v0").section.real.spec()


def played(env: PreprocessedEnv, steps: int, seed: int) -> list[tuple[Any, ...]]:
    rng = np.random.default_rng(seed)
    seen: list[tuple[Any, ...]] = [(env.reset(seed=seed)[0],)]
    for _ in range(steps):
        action = rng.uniform([-1, 0, 0], [1, 1, 0.3]).astype(np.float32)
        step = env.step(action)
        seen.append(step)
        if step[2] or step[3]:
            break
    return seen


@pytest.mark.parametrize(("repeat", "frames", "seed"), [(4, 1000, 3), (3, 40, 4), (1, 12, 5)])
def test_observations_rewards_and_ends_are_the_same(repeat: int, frames: int, seed: int) -> None:
    """(3, 40): the time limit cuts within a repeat, so that the last observation is drawn afterwards."""
    spec = dataclasses.replace(CAR, action_repeat=repeat, max_episode_steps=frames)
    fast, plain = make_real_env(spec), make_real_env(spec)
    assert fast._unseen.possible
    plain._unseen.possible = False
    ours, theirs = played(fast, 60, seed), played(plain, 60, seed)
    assert len(ours) == len(theirs) > 10
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one[0], other[0])
        assert one[1:] == other[1:]
    fast.close()
    plain.close()


def test_an_end_within_a_repeat_is_drawn() -> None:
    spec = dataclasses.replace(CAR, action_repeat=4)
    observations = []
    for fast in (True, False):
        env = make_real_env(spec)
        env._unseen.possible = fast
        env.reset(seed=0)
        for _ in range(3):
            env.step(np.array([0.2, 1.0, 0.0], np.float32))
        env.unwrapped.car.hull.position = (1e4, 1e4)  # off the playing field: the task ends at the next frame
        observation, reward, terminated, _, info = env.step(np.array([0.0, 1.0, 0.0], np.float32))
        assert (terminated, info["real_frames"], reward) == (True, 1, -100)
        observations.append(observation)
        env.close()
    assert np.array_equal(*observations)


def test_drawing_comes_back_behind_an_error() -> None:
    env = make_real_env(CAR)
    env.reset(seed=0)
    with pytest.raises(RuntimeError), env._unseen.undrawn():
        raise RuntimeError
    assert "_render" not in vars(env.unwrapped)
    env.close()


def test_other_environments_and_unknown_wrappers_are_left_alone() -> None:
    assert not UnseenFrames(gym.make("CartPole-v1")).possible
    car = gym.make("CarRacing-v3")
    assert UnseenFrames(car).possible
    assert not UnseenFrames(gym.wrappers.FrameStackObservation(car, 2)).possible
    car.close()
