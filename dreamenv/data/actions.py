"""Actions of any space as what memories and agents take, Discrete from 0 or a Box of one dimension, and back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError
from dreamenv.types import UNBOUNDED, RealEnvSpec

# Up to so many combinations of choices each is an action of its own
MOST_COMBINATIONS = 128


@dataclass(frozen=True)
class _Element:
    """One number of an action: from `low` to `high`, a whole one where `whole`."""

    low: float
    high: float
    whole: bool

    @property
    def choices(self) -> int:
        return int(self.high - self.low) + 1


class ActionMapping:
    """From actions of `space` to those of a real environment, and back.

    Attributes:
        space: Discrete from 0, where the real space is a choice or up to 128 combinations of choices; else a Box of one
            dimension with finite bounds. In it a number that has to be whole is rounded: from `low - 0.5` to
            `high + 0.5`, so that each has the same share.
        as_it_is: It is the real space itself, and actions pass unchanged.
        steps: What is different from the real space, in words; empty where nothing is.

    Args:
        real_space: Discrete, Box, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
        spec: `action_bounds` of it are used; those of a whole number are rounded inward.
        as_it_is: Take the real space itself.

    Raises:
        ConfigurationError: A space of another kind, or bounds that do not fit.
    """

    def __init__(self, real_space: gym.Space[Any], spec: RealEnvSpec, *, as_it_is: bool = False) -> None:
        self._real = real_space
        if isinstance(real_space, spaces.Discrete) and spec.action_bounds is not None:
            raise ConfigurationError(
                f"{spec.id}: action_bounds is {spec.action_bounds}, expected None for actions {real_space}, which has "
                "no bounds. Leave choices out by gymnasium.wrappers.TransformAction"
            )
        elements = _elements(real_space, spec.id)
        if not elements:
            raise ConfigurationError(f"{spec.id}: actions {real_space} leave nothing to choose")
        self._elements, notes = _bounded(elements, spec)
        unchanged = isinstance(real_space, spaces.Discrete) and real_space.start == 0
        self.as_it_is = as_it_is or unchanged or (_is_plain_box(real_space) and self._elements == elements)
        combinations = math.prod(element.choices for element in self._elements if element.whole)
        self._chosen = all(element.whole for element in self._elements) and combinations <= MOST_COMBINATIONS
        if isinstance(real_space, spaces.Discrete):
            self._chosen, combinations = True, int(real_space.n)
        self.space: Any
        if self.as_it_is:
            self.space = real_space
        elif self._chosen:
            self.space = spaces.Discrete(combinations)
        else:
            margin = np.array([0.5 if element.whole else 0.0 for element in self._elements])
            low = np.array([element.low for element in self._elements]) - margin
            high = np.array([element.high for element in self._elements]) + margin
            self.space = spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
        self.steps = () if self.as_it_is else (f"actions {real_space} are taken as {self.space}", *notes)

    def to_real(self, action: Any) -> Any:
        """The real environment's action of one of `space`."""
        if isinstance(self._real, spaces.Discrete):
            return np.asarray(action)[()] + (0 if self.as_it_is else self._real.start)
        if self.as_it_is:
            return action
        return _assembled(self._real, iter(self._numbers(action)))

    def _numbers(self, action: Any) -> list[float]:
        if self._chosen:
            numbers, left = [], int(action)
            for element in reversed(self._elements):
                left, place = divmod(left, element.choices)
                numbers.append(element.low + place)
            return numbers[::-1]
        given = np.asarray(action, np.float64).reshape(-1)
        rounded = [np.rint(number) if e.whole else number for number, e in zip(given, self._elements, strict=True)]
        return [float(np.clip(number, e.low, e.high)) for number, e in zip(rounded, self._elements, strict=True)]

    def from_real(self, action: Any) -> Any:
        """The action of `space` that is `action` in the real environment.

        Raises:
            ValueError: It is outside of what `space` can say.
        """
        if self.as_it_is:
            return np.int64(action) if isinstance(self._real, spaces.Discrete) else np.asarray(action, np.float32)
        numbers = _taken_apart(self._real, action)
        for number, element in zip(numbers, self._elements, strict=True):
            if not element.low <= number <= element.high:
                raise ValueError(f"action {action} is outside of {element.low:g} to {element.high:g}")
        if not self._chosen:
            return np.array(numbers, np.float32)
        index = 0
        for number, element in zip(numbers, self._elements, strict=True):
            index = index * element.choices + int(number - element.low)
        return np.int64(index)


def finite_range(low: float, high: float) -> tuple[float, float]:
    """A range to act in between bounds of which one or both may be missing: of length 2 from the one, or [-1, 1]."""
    below, above = low > -UNBOUNDED, high < UNBOUNDED
    if below and above:
        return low, high
    if below:
        return low, low + 2.0
    return (high - 2.0, high) if above else (-1.0, 1.0)


def _is_plain_box(space: gym.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating)


def _elements(space: gym.Space[Any], name: str) -> list[_Element]:
    if isinstance(space, spaces.Discrete):
        return [_Element(float(space.start), float(space.start + space.n - 1), True)]
    if isinstance(space, spaces.MultiDiscrete):
        pairs = zip(space.nvec.ravel().tolist(), space.start.ravel().tolist(), strict=True)
        return [_Element(float(start), float(start + count - 1), True) for count, start in pairs]
    if isinstance(space, spaces.MultiBinary):
        return [_Element(0.0, 1.0, True)] * math.prod(space.shape)
    if isinstance(space, spaces.Box):
        whole = not np.issubdtype(space.dtype, np.floating)
        bounds = zip(space.low.ravel().tolist(), space.high.ravel().tolist(), strict=True)
        return [_Element(float(low), float(high), whole) for low, high in bounds]
    if isinstance(space, (spaces.Tuple, spaces.Dict)):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return [element for part in parts for element in _elements(part, name)]
    raise ConfigurationError(
        f"{name}: action space {space}; expected Discrete, Box, MultiDiscrete, MultiBinary, or a Dict or Tuple of "
        "these. Turn it into one by gymnasium.wrappers.TransformAction"
    )


def _bounded(elements: list[_Element], spec: RealEnvSpec) -> tuple[list[_Element], list[str]]:
    """The elements with finite bounds, and what was chosen for those that have none."""
    asked = spec.action_bounds
    if asked is not None and len(asked) not in (1, len(elements)):
        raise ConfigurationError(
            f"{spec.id}: action_bounds holds {len(asked)} pairs, expected 1 or {len(elements)}, one a dimension"
        )
    found, notes = [], []
    for index, element in enumerate(elements):
        if asked is not None:
            low, high = asked[index if len(asked) > 1 else 0]
            if not (element.low <= low <= high <= element.high and math.isfinite(high - low)):
                raise ConfigurationError(
                    f"{spec.id}: action_bounds {low:g} to {high:g} of dimension {index} does not lie within the "
                    f"space's {element.low:g} to {element.high:g}"
                )
            if element.whole:
                low, high = _inward(low, high, index, spec)
        else:
            low, high = finite_range(element.low, element.high)
            if (low, high) != (element.low, element.high):
                notes.append(
                    f"dimension {index} has {_lacking(element)}: {low:g} to {high:g} are used, or set action_bounds"
                )
        found.append(_Element(low, high, element.whole))
    return found, notes


def _inward(low: float, high: float, index: int, spec: RealEnvSpec) -> tuple[float, float]:
    """The first and the last whole number within bounds."""
    first, last = float(math.ceil(low)), float(math.floor(high))
    if first > last:
        raise ConfigurationError(
            f"{spec.id}: action_bounds {low:g} to {high:g} of dimension {index} holds no whole number, expected one or "
            "more"
        )
    return first, last


def _lacking(element: _Element) -> str:
    """Which of its bounds an element has not."""
    below, above = element.low > -UNBOUNDED, element.high < UNBOUNDED
    if below or above:
        return "no lower bound" if above else "no upper bound"
    return "no bounds"


def _assembled(space: gym.Space[Any], numbers: Iterator[float]) -> Any:
    if isinstance(space, spaces.Discrete):
        return np.int64(next(numbers))
    if isinstance(space, spaces.Dict):
        return {key: _assembled(part, numbers) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_assembled(part, numbers) for part in space.spaces)
    shape = space.shape or ()
    flat = [next(numbers) for _ in range(math.prod(shape))]
    return np.array(flat, np.float64).astype(space.dtype).reshape(shape)


def _taken_apart(space: gym.Space[Any], action: Any) -> list[float]:
    if isinstance(space, spaces.Dict):
        return [number for key, part in space.spaces.items() for number in _taken_apart(part, action[key])]
    if isinstance(space, spaces.Tuple):
        return [n for part, one in zip(space.spaces, action, strict=True) for n in _taken_apart(part, one)]
    return [float(number) for number in np.asarray(action).reshape(-1)]


def real_actions(mapping: ActionMapping, actions: list[Any]) -> NDArray[Any]:
    """Actions `[T, A]` float32 or `[T]` int64 of `mapping.space` for a real environment's.

    Raises:
        ValueError: One is outside of what the space can say.
    """
    return np.stack([mapping.from_real(action) for action in actions])
