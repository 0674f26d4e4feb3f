"""Experience seen in a mirror: where left and right are alike, every episode is worth two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError


class Mirror:
    """Exchanges left and right in pictures and in actions.

    Args:
        actions: Of a Box, the factor of each dimension, 1 or -1; of Discrete actions, which action each one becomes.
        action_space: The real environment's.

    Raises:
        ConfigurationError: Not one number for each dimension or action, other factors, actions that are not exchanged
            in pairs, or a Box whose bounds the mirror does not keep.
    """

    def __init__(self, actions: Sequence[float], action_space: gym.Space[Any]) -> None:
        given = np.asarray(actions, np.float32)
        if isinstance(action_space, spaces.Discrete):
            last = int(action_space.start + action_space.n) - 1
            numbers = np.arange(int(action_space.start), last + 1)
            becomes = given.astype(np.int64)
            if given.shape != numbers.shape or sorted(becomes) != list(numbers):
                raise ConfigurationError(
                    f"mirror={list(actions)}: expected what each of the actions {numbers.tolist()} becomes"
                )
            if not np.array_equal(becomes[becomes - int(action_space.start)], numbers):
                raise ConfigurationError(f"mirror={list(actions)}: mirrored twice, an action must be itself again")
            self._becomes, self._start = becomes, int(action_space.start)
            return
        if not isinstance(action_space, spaces.Box) or given.shape != action_space.shape or set(given) - {1.0, -1.0}:
            raise ConfigurationError(
                f"mirror={list(actions)}: expected 1 or -1 for each dimension of the actions, {action_space}"
            )
        turned = given < 0
        if not np.array_equal(action_space.low[turned], -action_space.high[turned]):
            raise ConfigurationError(
                f"mirror={list(actions)}: a dimension with factor -1 needs bounds that are alike on both sides, "
                f"got {action_space}"
            )
        self._factors = given

    def pictures(self, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`[..., H, W, 3]` with columns in reverse order; a view."""
        return pictures[..., ::-1, :]

    def actions(self, actions: NDArray[Any]) -> NDArray[Any]:
        """`[..., A]` or `[...]`, a copy."""
        if actions.dtype.kind == "i":
            found: NDArray[Any] = self._becomes[actions - self._start]
            return found
        return actions * self._factors
