"""A real environment of pictures that is light to start, and fails on request."""

from __future__ import annotations

import os
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ID = "tests.play.walking_env:Walking-v0"


class WalkingEnv(gym.Env[Any, Any]):
    """Every pixel is 100 + 2 steps; the reward is the action; it terminates after `lifetime` steps.

    At step `dies_at` the process exits, at step `hangs_at` it sleeps for a minute, at step `raises_at` it raises.
    """

    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(
        self,
        *,
        lifetime: int = 10**6,
        dies_at: int = -1,
        hangs_at: int = -1,
        raises_at: int = -1,
        render_mode: Any = None,
    ) -> None:
        self._lifetime, self._dies_at, self._hangs_at, self._raises_at = lifetime, dies_at, hangs_at, raises_at
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        if self._steps == self._dies_at:
            os._exit(3)
        if self._steps == self._hangs_at:
            time.sleep(60)
        if self._steps == self._raises_at:
            raise RuntimeError("out of the ordinary")
        return self._picture(), float(action), self._steps >= self._lifetime, False, {}

    def _picture(self) -> Any:
        return np.full((64, 64, 3), 100 + 2 * self._steps, np.uint8)


gym.register("Walking-v0", entry_point=WalkingEnv, max_episode_steps=50)
