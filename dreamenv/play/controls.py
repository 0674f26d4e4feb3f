"""From keys and sticks to actions, the same for the window and the web page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.types import DIGITS, KEYS, NO_KEY, Control

# Beyond this share of its way a stick presses the key of a Discrete action
_PRESSED = 0.5


@dataclass(frozen=True)
class Hands:
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
    def of_keys(cls, keys: Collection[str]) -> Hands:
        """Hands that hold down keys, names of `KEYS`; of several digits the smallest counts."""
        digits = sorted(int(key) for key in keys if key in DIGITS)
        return cls(
            float(("RIGHT" in keys) - ("LEFT" in keys)),
            float("UP" in keys),
            float("DOWN" in keys),
            digits[0] if digits else None,
        )

    def shares(self) -> dict[str, float]:
        """How far each key is pressed, in (0, 1]; keys that are let go are left out."""
        pressed = {
            "LEFT": -self.sideways,
            "RIGHT": self.sideways,
            "UP": self.forward,
            "DOWN": self.back,
            str(self.digit): 1.0,
        }
        return {key: min(share, 1.0) for key, share in pressed.items() if key in KEYS and share > 0}


class KeyMap:
    """What keys and sticks mean in an action space.

    Args:
        space: Discrete, or Box of one dimension.
        controls: What each key does, and under `NO_KEY` what happens when none is held. Empty: in a Discrete space the
            digit is the action's number, counted from 0; in a Box LEFT and RIGHT move the first dimension, UP and DOWN
            the second, to their bounds (to 1 where there is none). Without a `NO_KEY`, no key is the first Discrete
            action, or the Box's action nearest to 0.

    Attributes:
        labels: A word or two for each key that does something, by key.

    Raises:
        ConfigurationError: An unknown key, or an action that is not one of the space.
    """

    def __init__(self, space: gym.Space[Any], controls: Mapping[str, Control]) -> None:
        self._space = space
        chosen = dict(controls) if controls else _usual_controls(space)
        actions = {key: self._checked(key, control) for key, control in chosen.items()}
        self._idle = actions.pop(NO_KEY, _usual_idle(space))
        self._actions = actions
        self.labels = {key: chosen[key].label for key in actions}

    def action(self, hands: Hands) -> Any:
        """The action of `hands`: of a Discrete space that of the key which is pressed furthest, by more than half; of a
        Box the sum of what each key changes, by the share to which it is pressed."""
        shares = {key: share for key, share in hands.shares().items() if key in self._actions}
        if isinstance(self._space, spaces.Discrete):
            pressed = [key for key, share in shares.items() if share > _PRESSED]
            return self._actions[max(pressed, key=shares.__getitem__)] if pressed else self._idle
        assert isinstance(self._space, spaces.Box)
        action = self._idle + sum(share * (self._actions[key] - self._idle) for key, share in shares.items())
        return np.clip(action, self._space.low, self._space.high).astype(self._space.dtype)

    def _checked(self, key: str, control: Control) -> Any:
        if key not in (*KEYS, NO_KEY):
            raise ConfigurationError(f"controls: unknown key {key!r}. {did_you_mean(key, (*KEYS, NO_KEY))}")
        action: Any = np.asarray(control.action, self._space.dtype)
        if action.ndim == 0:
            action = action[()]  # an array without axes is in no Discrete space
        if not self._space.contains(action):
            raise ConfigurationError(f"controls: {key} is action {control.action}, which is not one of {self._space}")
        return action


def _usual_controls(space: gym.Space[Any]) -> dict[str, Control]:
    if isinstance(space, spaces.Discrete):
        numbers = DIGITS[: int(space.n)]
        return {digit: Control(f"action {digit}", int(space.start) + int(digit)) for digit in numbers}
    assert isinstance(space, spaces.Box)
    idle: NDArray[Any] = _usual_idle(space)
    found = {}
    for key, label, dimension, bounds, side in (
        ("LEFT", "left", 0, space.low, -1.0),
        ("RIGHT", "right", 0, space.high, 1.0),
        ("UP", "forward", 1, space.high, 1.0),
        ("DOWN", "back", 1, space.low, -1.0),
    ):
        if dimension < len(idle):
            action = idle.copy()
            action[dimension] = bounds[dimension] if np.isfinite(bounds[dimension]) else side
            if not np.array_equal(action, idle):
                found[key] = Control(label, tuple(action.tolist()))
    return found


def _usual_idle(space: gym.Space[Any]) -> Any:
    if isinstance(space, spaces.Discrete):
        return np.int64(space.start)
    assert isinstance(space, spaces.Box)
    return np.clip(0.0, space.low, space.high).astype(space.dtype)
