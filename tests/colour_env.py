"""A real environment whose pictures, rewards and end are known beforehand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

COLOURS = 200


class ColourEnv(gym.Env[Any, Any]):
    """A picture of one colour that counts the steps; it ends after six, by a blank frame."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = spaces.Discrete(3)
    observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.taken = []
        return self._picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.taken.append(action)
        ended = len(self.taken) == 6
        return np.zeros((64, 64, 3), np.uint8) if ended else self._picture(), 2.0, ended, False, {}

    def render(self) -> Any:
        return np.full((30, 60, 3), 7, np.uint8)

    def _picture(self) -> Any:
        return np.full((64, 64, 3), COLOURS + len(self.taken), np.uint8)
