"""A real environment in a process of its own."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

from dreamenv.errors import CollectionError, UnknownDreamError
from dreamenv.play.real_env_process import RealEnvProcess
from dreamenv.play.worlds import RealWorld
from dreamenv.types import RealEnvSpec
from tests.play.openings import small_opening
from tests.play.walking_env import ID, WalkingEnv

pytestmark = pytest.mark.integration


def gone(pid: int | None) -> bool:
    """Whether no process of that id runs."""
    assert pid is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_is_the_environment_itself() -> None:
    env = RealEnvProcess(RealEnvSpec(ID))
    try:
        assert env.pid != os.getpid()
        assert (env.observation_space, env.action_space) == (WalkingEnv.observation_space, WalkingEnv.action_space)
        first, _ = env.reset(seed=3)
        assert (first == 100).all()
        picture, reward, terminated, truncated, _ = env.step(2)
        assert ((picture == 102).all(), reward, terminated, truncated) == (True, 2.0, False, False)
    finally:
        env.close()
    assert gone(env.pid)
    env.close()
    with pytest.raises(CollectionError, match="has ended"):
        env.step(0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"dies_at": 1}, "died"), ({"raises_at": 1}, "out of the ordinary"), ({"hangs_at": 1}, "did not answer")],
)
def test_failures_are_told_and_leave_no_process(kwargs: dict[str, Any], message: str) -> None:
    env = RealEnvProcess(RealEnvSpec(ID, kwargs=kwargs))
    try:
        env.reset()
        if "hangs_at" in kwargs:
            env._seconds_to_answer = 0.2
        with pytest.raises(CollectionError, match=message):
            env.step(0)
    finally:
        begin = time.monotonic()
        env.close()
    assert time.monotonic() - begin < 50, "a game that hangs is killed"
    assert gone(env.pid)


def test_an_unknown_environment_is_said_to_be_one() -> None:
    with pytest.raises(UnknownDreamError, match="Nowhere-v0"):
        RealEnvProcess(RealEnvSpec("Nowhere-v0"))


def test_the_real_world_is_the_latent_twin() -> None:
    closed: list[bool] = []
    opening = small_opening(real={"lifetime": 4})
    world = RealWorld(opening, np.random.default_rng(0), on_close=lambda: closed.append(True))
    try:
        moment = world.reset()
        assert moment.frame is not None
        assert (moment.frame == 100).all()
        np.testing.assert_allclose(moment.latent, _encode(opening, moment.frame), atol=1e-5)
        moment = world.step(np.array([2]))  # two real frames an action
        assert ((moment.frame == 104).all(), moment.reward, moment.step) == (True, 4.0, 1)
        assert moment.predicted_reward != moment.reward
        np.testing.assert_allclose(world.state.latent[0], moment.latent)
        moment = world.step(np.array([1]))
        assert (moment.ended, moment.undiscounted_return) == ("terminated", 6.0)
    finally:
        world.close()
        world.close()
    assert closed == [True]
    assert gone(world.pid)


def _encode(opening: Any, frame: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        return opening.model.vision.encode(torch.from_numpy(frame[None]))[0].numpy()
