"""Leaving frames undrawn changes nothing but the time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from dreamenv import registry
from dreamenv.data.car_racing_frames import CarRacingFrames
from dreamenv.data.preprocess import PreprocessedEnv, make_real_env
from dreamenv.data.unseen_frames import UNSEEN_FRAMES, UnseenFrames
from dreamenv.errors import ConfigurationError
from dreamenv.types import RealEnvSpec, Wrapper

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


BLOB = (Wrapper("dreamenv.data.car_racing_road:UnvisitedRoad"), Wrapper("dreamenv.data.variants:Blob"))


@pytest.mark.parametrize(
    ("repeat", "frames", "seed", "wrappers"), [(4, 1000, 3, ()), (3, 40, 4, ()), (1, 12, 5, ()), (3, 40, 6, BLOB)]
)
def test_observations_rewards_and_ends_are_the_same(
    repeat: int, frames: int, seed: int, wrappers: tuple[Wrapper, ...]
) -> None:
    """Of 40 frames in threes, the time limit cuts within a repeat, so that the last observation is drawn afterwards."""
    spec = dataclasses.replace(CAR, action_repeat=repeat, max_episode_steps=frames, wrappers=wrappers)
    fast, plain = make_real_env(spec), make_real_env(dataclasses.replace(spec, skip_unseen_frames=None))
    assert (fast._unseen is None, plain._unseen is None) == (False, True)
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
    for skip in (spec.skip_unseen_frames, None):
        env = make_real_env(dataclasses.replace(spec, skip_unseen_frames=skip))
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
    assert env._unseen is not None
    with pytest.raises(RuntimeError), env._unseen.undrawn():
        raise RuntimeError
    assert "_render" not in vars(env.unwrapped)
    env.close()


def test_other_environments_and_unknown_wrappers_are_left_alone() -> None:
    assert CarRacingFrames.of(gym.make("CartPole-v1")) is None
    car = gym.make("CarRacing-v3")
    assert CarRacingFrames.of(car) is not None
    assert CarRacingFrames.of(gym.wrappers.FrameStackObservation(car, 2)) is None
    car.close()


class Sketched(gym.Env[Any, Any]):
    """Counts its steps and what it draws; the observation is the number of pictures drawn."""

    observation_space, action_space = spaces.Box(0, 255, (1,)), spaces.Discrete(2)

    def __init__(self) -> None:
        self.steps = self.drawn = 0
        self.draws = True

    def picture(self) -> Any:
        self.drawn += self.draws
        return np.array([self.drawn], np.float32)

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.picture(), 1.0, self.steps == 6, False, {}


class SketchedFrames(UnseenFrames):
    def __init__(self, env: Sketched) -> None:
        self._env = env

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> UnseenFrames | None:
        return cls(env) if isinstance(env, Sketched) else None

    @contextmanager
    def undrawn(self) -> Iterator[None]:
        self._env.draws = False
        yield
        self._env.draws = True

    def draw(self) -> Any:
        return self._env.picture()


def test_an_environment_of_ones_own_can_skip_its_frames() -> None:
    UNSEEN_FRAMES.add("sketched", SketchedFrames)
    env = PreprocessedEnv(Sketched(), RealEnvSpec("Sketched-v0", action_repeat=4, skip_unseen_frames="sketched"))
    env.reset()
    assert env.step(0)[:2] == ([2.0], 4.0)  # one drawn at the reset, one of four frames since
    assert env.step(0)[:3] == ([3.0], 2.0, True)  # the end came within the repeat, and was drawn afterwards
    with pytest.raises(ConfigurationError, match="unseen_frames 'sketchd' is not known. Did you mean sketched"):
        PreprocessedEnv(Sketched(), RealEnvSpec("Sketched-v0", skip_unseen_frames="sketchd"))
