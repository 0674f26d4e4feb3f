"""A real environment of which some episodes raise or are not finite."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dreamenv.types import episode_seeds

FIRST_SEED = episode_seeds("collect", 0, 1)[0]


class DivergingEnv(gym.Env[Any, Any]):
    """Four steps; episodes whose number is in `raises` or in `nan` never come to their end.

    Args:
        raises: Numbers of the episodes of a collection with seed 0 that raise.
        nan: Numbers of those whose reward is not a number.
        once: An episode that has raised goes well the next time.
        huge: Rewards are beyond float32.
    """

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)
    made = 0

    def __init__(
        self, raises: tuple[int, ...] = (), nan: tuple[int, ...] = (), *, once: bool = False, huge: bool = False
    ) -> None:
        self._raises, self._nan, self._once, self._huge = raises, nan, once, huge
        self._time = self._episode = 0
        type(self).made += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._time, self._episode = 0, (seed or 0) - FIRST_SEED
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        if self._time == 3 and self._episode in self._raises and not (self._once and self.made > 1):
            raise FloatingPointError("the simulation has diverged")
        reward = float("nan") if self._episode in self._nan else 1e39 if self._huge else float(self._episode)
        return np.zeros(1, np.float32), reward, self._time == 4, False, {}


gym.register("Diverging-v0", entry_point=DivergingEnv)
