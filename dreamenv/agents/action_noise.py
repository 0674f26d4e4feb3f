"""Noise on the actions of a dream, so that no single action decides what it pays."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import Noise


class ActionNoise:
    """Disturbs a batch of actions.

    Of a Discrete space, an action gives way to a uniform one with probability `amount`. Of a Box, a normal draw is
    added whose standard deviation is `amount` times half the range of each dimension, and the sum is clipped.

    Args:
        action_space: A Discrete space, or a Box of one dimension with finite bounds.
        amount: At least 0, and of a Discrete space at most 1; 0 draws nothing.

    Raises:
        ConfigurationError: An amount out of range.
    """

    def __init__(self, action_space: gym.Space[Any], amount: float) -> None:
        discrete = isinstance(action_space, spaces.Discrete)
        most = 1.0 if discrete else math.inf
        if not (0 <= amount <= most and math.isfinite(amount)):
            wanted = "a probability in [0, 1]" if discrete else "a finite number of at least 0"
            raise ConfigurationError(f"action_noise={amount!r}: for {action_space}, expected {wanted}")
        self._amount = amount
        self._choices = (0, 0)
        if isinstance(action_space, spaces.Discrete):
            self._choices = int(action_space.start), int(action_space.n)
        elif isinstance(action_space, spaces.Box):
            self._low = torch.from_numpy(action_space.low.astype(np.float32))
            self._high = torch.from_numpy(action_space.high.astype(np.float32))

    def __call__(self, action: Tensor, noise: Noise) -> Tensor:
        """`[B]` int64 or `[B, A]` float32: `action` as it is carried out."""
        if self._amount == 0:
            return action
        if action.ndim == 1:
            start, count = self._choices
            drawn = noise.uniform(len(action), 2)
            other = start + (drawn[:, 1] * count).long().clamp(max=count - 1)
            return torch.where(drawn[:, 0] < self._amount, other, action)
        low, high = self._low.to(action.device), self._high.to(action.device)
        shift = self._amount * (high - low) / 2 * noise.normal(*action.shape)
        return torch.maximum(torch.minimum(action + shift, high), low)
