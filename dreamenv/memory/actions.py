"""Actions as inputs of a network."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.types import UNBOUNDED


class ActionEncoder(nn.Module):
    """Actions as network inputs: Box scaled to [-1, 1] where it is bounded, Discrete one-hot.

    A Discrete action may also come as `[B, n]` floats (a relaxed or straight-through one-hot), which pass unchanged
    and carry a gradient.
    """

    low: Tensor
    high: Tensor

    def __init__(self, action_space: gym.Space[Any]) -> None:
        super().__init__()
        self.discrete = isinstance(action_space, spaces.Discrete)
        if isinstance(action_space, spaces.Discrete):
            self.size = int(action_space.n)
            self.start = int(action_space.start)
            low, high = np.zeros(0, np.float32), np.zeros(0, np.float32)
        elif isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
            self.size = int(action_space.shape[0])
            self.start = 0
            bounded = np.abs(action_space.low.astype(np.float64)) < UNBOUNDED
            bounded &= np.abs(action_space.high.astype(np.float64)) < UNBOUNDED
            low = np.where(bounded, action_space.low, -1.0).astype(np.float32)
            high = np.where(bounded, action_space.high, 1.0).astype(np.float32)
            # A dimension of one value tells nothing: it is encoded as -1
            high = np.where(high > low, high, low + np.maximum(1.0, np.abs(low))).astype(np.float32)
        else:
            raise ConfigurationError(
                f"a world model takes Discrete or one-dimensional Box actions, got {action_space}. "
                "Flatten other spaces with a Gymnasium wrapper first."
            )
        self.register_buffer("low", torch.from_numpy(low), persistent=False)
        self.register_buffer("high", torch.from_numpy(high), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """`[..., A]` or `[...]` (Discrete) to `[..., size]` float32."""
        if not self.discrete:
            return (action.float() - self.low) * (2.0 / (self.high - self.low)) - 1.0
        if action.is_floating_point():
            return action
        return nn.functional.one_hot(action.long() - self.start, self.size).float()

    def some(self, rows: int) -> Tensor:
        """An action for each of `rows` dreams, `[rows, A]` or `[rows]`, in the middle of the space or its first."""
        if self.discrete:
            return torch.full((rows,), self.start, device=self.low.device)
        return ((self.low + self.high) / 2).expand(rows, -1)
