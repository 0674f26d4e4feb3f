"""A real environment that takes its whole process down once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class FragileEnv(gym.Env[Any, Any]):
    """Rewards follow the episode's seed. The first process to reset while `fuse` exists dies of it."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fuse: str, *, broken: bool = False, render_mode: Any = None) -> None:
        self._fuse, self._broken = Path(fuse), broken

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._fuse.exists():
            self._fuse.unlink()
            os._exit(3)
        self._left = 5
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        reward = float("nan") if self._broken else self.np_random.normal() + action
        return np.zeros(2, np.float32), reward, self._left == 0, False, {}


gym.register("Fragile-v0", entry_point=FragileEnv, max_episode_steps=9)
