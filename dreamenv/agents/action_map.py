"""From a network's unbounded outputs to actions of a space."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError, did_you_mean

ACTION_MAPS = ("squash", "throttle", "argmax")


class ActionMap:
    """A fixed, batched map from outputs `[..., outputs]` to actions.

    Kinds:
        "squash": Box; `tanh` of each output, scaled into its dimension's bounds.
        "throttle": Box whose last two dimensions oppose each other (gas and brake): like "squash", but one output moves
            both. Its positive half drives the last but one from low to high, its negative half the last, so they never
            act together. Exploration seldom presses both for long; an optimiser finds that corner of the action
            space, drives well in the dream and stands still in the real environment.
        "argmax": Discrete; the index of the largest output.

    Attributes:
        outputs: How many outputs it reads.
        kind: One of the above.
    """

    def __init__(self, action_space: gym.Space[Any], kind: str | None = None) -> None:
        """`kind` None means "squash" for Box and "argmax" for Discrete.

        Raises:
            ConfigurationError: An unknown kind, a kind that does not fit the space, or a space without finite bounds.
        """
        self.action_space = action_space
        discrete = isinstance(action_space, spaces.Discrete)
        self.kind = kind if kind is not None else ("argmax" if discrete else "squash")
        if self.kind not in ACTION_MAPS:
            raise ConfigurationError(f"action_map={kind!r} is not known. {did_you_mean(str(kind), ACTION_MAPS)}")
        if discrete != (self.kind == "argmax"):
            fit = "'argmax'" if discrete else "'squash' or 'throttle'"
            raise ConfigurationError(f"action_map={self.kind!r} does not fit {action_space}; it takes {fit}")
        if isinstance(action_space, spaces.Discrete):
            self.outputs, self._start = int(action_space.n), int(action_space.start)
            return
        if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
            raise ConfigurationError(f"agents act in Discrete or one-dimensional Box spaces, got {action_space}")
        if not np.issubdtype(action_space.dtype, np.floating):
            raise ConfigurationError(f"a Box of {action_space.dtype} holds no continuous actions; it must be floating")
        if not (np.isfinite(action_space.low).all() and np.isfinite(action_space.high).all()):
            raise ConfigurationError(
                f"{action_space} has no finite bounds to scale actions into. "
                "Wrap the real environment in gymnasium.wrappers.RescaleAction or bound its space first."
            )
        size = int(action_space.shape[0])
        if self.kind == "throttle" and size < 2:
            raise ConfigurationError(f"action_map='throttle' needs at least two action dimensions, got {action_space}")
        self.outputs = size - 1 if self.kind == "throttle" else size
        self._low = torch.from_numpy(action_space.low.astype(np.float32))
        self._high = torch.from_numpy(action_space.high.astype(np.float32))

    def to(self, device: torch.device | str) -> ActionMap:
        """The same map with its bounds on `device`, in place."""
        if self.kind != "argmax":
            self._low, self._high = self._low.to(device), self._high.to(device)
        return self

    def __call__(self, outputs: Tensor) -> Tensor:
        """Actions `[..., A]` float32 or `[...]` int64 of `outputs` `[..., outputs]`."""
        if self.kind == "argmax":
            return outputs.argmax(dim=-1) + self._start
        share = torch.tanh(outputs)
        if self.kind == "throttle":
            # (-1, 1) of an opposed dimension starts at -1, its low bound, where it does nothing
            pedal = share[..., -1:]
            share = torch.cat([share[..., :-1], 2 * pedal.clamp(min=0) - 1, 2 * (-pedal).clamp(min=0) - 1], dim=-1)
        action = self._low + (self._high - self._low) * ((share + 1) / 2)
        return torch.maximum(torch.minimum(action, self._high), self._low)

    def to_numpy(self, action: Tensor) -> NDArray[Any]:
        """Actions as the real environment takes them: the space's dtype, inside its bounds."""
        array = action.cpu().numpy()
        if isinstance(self.action_space, spaces.Box):
            return np.clip(array.astype(self.action_space.dtype), self.action_space.low, self.action_space.high)
        return array.astype(np.int64)
