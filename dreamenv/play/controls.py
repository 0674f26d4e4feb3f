"""From keys and sticks to actions, the same for the window and the web page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ARROWS = ("LEFT", "RIGHT", "UP", "DOWN")
DIGITS = tuple("0123456789")
KEYS = (*ARROWS, *DIGITS)


@dataclass(frozen=True)
class Controls:
    """What a player's hands do.

    Attributes:
        sideways: -1 (left) to 1 (right).
        forward, back: 0 (let go) to 1 (pressed).
        digit: The number pressed, None for none.
    """

    sideways: float = 0.0
    forward: float = 0.0
    back: float = 0.0
    digit: int | None = None

    @classmethod
    def of_keys(cls, keys: Collection[str]) -> Controls:
        """Controls of keys held down, names of `KEYS`; of several digits the smallest counts."""
        digits = sorted(int(key) for key in keys if key in DIGITS)
        return cls(
            float(("RIGHT" in keys) - ("LEFT" in keys)),
            float("UP" in keys),
            float("DOWN" in keys),
            digits[0] if digits else None,
        )


def action_of(space: gym.Space[Any], controls: Controls) -> Any:
    """The action that `controls` mean in `space`, a Discrete or one-dimensional Box space.

    Discrete(3) is stay, right, left, as in DoomTakeCover; in other Discrete spaces the digit is the action's number,
    counted from 0. A Box of three is steer, gas, brake, as in CarRacing; in others sideways moves the first dimension,
    forward and back the second, from 0, or what is nearest to it, to the bound (to 1 where there is none).
    """
    if isinstance(space, spaces.Discrete):
        if space.n == 3:
            return np.int64(space.start + (0, 1, 2)[round(controls.sideways)])
        chosen = controls.digit if controls.digit is not None and controls.digit < space.n else 0
        return np.int64(space.start + chosen)
    assert isinstance(space, spaces.Box)
    if len(space.low) == 3:
        push = np.array([controls.sideways, controls.forward, controls.back], np.float32)
        return np.clip(push, space.low, space.high)
    action = np.clip(0.0, space.low, space.high).astype(space.dtype)
    for dimension, share in enumerate((controls.sideways, controls.forward - controls.back)):
        if dimension < len(action) and share:
            bound = float((space.high if share > 0 else space.low)[dimension])
            reach = bound if np.isfinite(bound) else np.sign(share)
            action[dimension] += abs(share) * (reach - action[dimension])
    return action


def keyboard_action(space: gym.Space[Any], keys: Collection[str]) -> Any:
    """The action that keys held down mean in `space`; see `Controls.of_keys` and `action_of`."""
    return action_of(space, Controls.of_keys(keys))


def key_labels(space: gym.Space[Any]) -> dict[str, str]:
    """What each key does in `space`, by key; keys that do nothing are left out."""
    sideways = {"LEFT": "left", "RIGHT": "right"}
    if isinstance(space, spaces.Discrete):
        return sideways if space.n == 3 else {digit: f"action {digit}" for digit in DIGITS[: int(space.n)]}
    assert isinstance(space, spaces.Box)
    if len(space.low) == 3:
        return sideways | {"UP": "gas", "DOWN": "brake"}
    return sideways if len(space.low) == 1 else sideways | {"UP": "forward", "DOWN": "back"}
