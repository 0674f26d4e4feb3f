"""The baseline: actions drawn uniformly from the action space."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.agents.action_map import ActionMap
from dreamenv.agents.base import as_batch


class RandomAgent:
    """Uniform over a Discrete or a bounded Box space."""

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        generator: np.random.Generator | int,
        observation: str = "features",
    ) -> None:
        """`generator` may be a seed.

        Raises:
            ConfigurationError: An action space that has no uniform distribution.
        """
        ActionMap(action_space)  # refuses spaces without finite bounds, saying what to do
        self.observation = observation
        self.observation_space = observation_space
        self.action_space = action_space
        self._generator = np.random.default_rng(generator)

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """One action an observation, whatever it shows; `deterministic` changes nothing.

        Raises:
            SpaceMismatchError: An observation of another shape.
        """
        batch, single = as_batch(observation, self.observation_space)
        action = self.sample(len(batch))
        return (np.asarray(action[0]) if single else action), state

    def sample(self, count: int) -> NDArray[Any]:
        """`[count, A]` or `[count]` actions."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return self._generator.integers(space.n, size=count) + np.int64(space.start)
        assert isinstance(space, spaces.Box)
        actions = self._generator.uniform(space.low, space.high, (count, *space.shape)).astype(space.dtype)
        return np.clip(actions, space.low, space.high)
