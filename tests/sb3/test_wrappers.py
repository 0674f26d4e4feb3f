"""Stable-Baselines3's own wrappers do over the batched dream what they do over scalar dreams in a `DummyVecEnv`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

pytest.importorskip("stable_baselines3")

from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from dreamenv.envs import DreamEnv
from dreamenv.sb3 import DreamVecEnv
from tests.fakes import NoisyMemory, fake_world_model

ROWS = 3
WRAPPERS: dict[str, tuple[str, Callable[[VecEnv], VecEnv]]] = {
    "monitor": ("features", VecMonitor),
    "normalize": ("features", VecNormalize),
    "frame_stack": ("latent", lambda env: VecFrameStack(env, 4)),
    "check_nan": ("features", lambda env: VecCheckNan(env, raise_exception=True)),
    "pictures": ("pixels", lambda env: VecTransposeImage(VecFrameStack(VecMonitor(env), 2))),
}


def assert_same(mine: Any, other: Any) -> None:
    """Equal, but for the wall-clock times that VecMonitor notes."""
    if isinstance(mine, dict):
        assert mine.keys() == other.keys()
        for key in mine.keys() - {"t"}:
            assert_same(mine[key], other[key])
    else:
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_make_the_same_of_a_batch_as_of_scalar_dreams(name: str) -> None:
    kind, wrap = WRAPPERS[name]
    image = kind == "pixels"
    model = fake_world_model(NoisyMemory(death=0.1), action_space=spaces.Discrete(4), image=image, max_episode_steps=9)
    ours = wrap(DreamVecEnv(model, ROWS, observation=kind))
    theirs = wrap(DummyVecEnv([lambda: TimeLimit(DreamEnv(model, observation=kind), 9)] * ROWS))
    assert ours.observation_space == theirs.observation_space
    assert ours.seed(4) == theirs.seed(4)
    assert_same(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(20 if image else 60):
        actions = rng.integers(0, 4, ROWS)
        mine, other = ours.step(actions), theirs.step(actions)
        for part, expected in zip(mine[:3], other[:3], strict=True):
            assert_same(part, expected)
        for info, expected in zip(mine[3], other[3], strict=True):
            assert_same(info, expected)
        ends += int(mine[2].sum())
    assert ends > 2


def test_monitored_returns_are_sums_of_the_dreamed_rewards() -> None:
    env = VecMonitor(DreamVecEnv(fake_world_model(NoisyMemory(death=0.2), action_space=spaces.Discrete(2)), 2))
    env.seed(1)
    env.reset()
    totals, found = np.zeros(2), []
    for _ in range(40):
        _, rewards, dones, infos = env.step(np.zeros(2, int))
        totals += rewards
        for row in np.flatnonzero(dones):
            assert infos[row]["episode"]["r"] == pytest.approx(totals[row], abs=1e-4)
            found.append(totals[row])
            totals[row] = 0.0
    assert len(found) > 5
