"""Actions of a batch, checked before a dream sees them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.errors import InvalidActionError

# Room for the rounding of a float32 policy that ends exactly on a bound; beyond it the caller has to clip.
_TOLERANCE = 1e-6


class ActionChecker:
    """Turns what a caller gives as actions into `[N]` int64 (Discrete) or `[N, A]` float32 (Box), or raises."""

    def __init__(self, space: gym.Space[Any]) -> None:
        self._space = space
        if isinstance(space, spaces.Discrete):
            self._first, self._last = int(space.start), int(space.start) + int(space.n) - 1
        elif isinstance(space, spaces.Box):
            # Clipping to float32's range turns an unbounded side into one that infinite actions fail.
            largest = float(np.finfo(np.float32).max)
            low, high = (np.clip(side.astype(np.float64), -largest, largest) for side in (space.low, space.high))
            lowest, highest = (
                low - _TOLERANCE * np.maximum(1, np.abs(low)),
                high + _TOLERANCE * np.maximum(1, np.abs(high)),
            )
            # Of the type of what is compared with them: a mixed comparison takes several times as long
            self._low, self._high = (np.clip(side, -largest, largest).astype(np.float32) for side in (lowest, highest))
            self._inside = np.clip(0.0, low, high).astype(np.float32)
            self._bounds = list(zip(self._low.ravel().tolist(), self._high.ravel().tolist(), strict=True))

    def check(self, actions: Any, rows: int, active: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """A fresh array of the actions.

        Args:
            actions: `[rows]` integers or `[rows, A]` numbers.
            rows: How many are expected.
            active: `[rows]`; actions of the other rows are not looked at and come back as one inside the space.

        Raises:
            InvalidActionError: A wrong shape or type, not finite, or outside the space.
        """
        if isinstance(self._space, spaces.Discrete):
            return self._check_discrete(actions, rows, active)
        return self._check_box(actions, rows, active)

    def _check_discrete(self, actions: Any, rows: int, active: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        array = _as_array(actions, self._space)
        if array.shape != (rows,) or array.dtype.kind not in "iu":
            raise InvalidActionError(
                f"got actions of shape {array.shape} and dtype {array.dtype}, expected {rows} integers of {self._space}"
            )
        if rows == 1 and active is None and self._first <= array.item() <= self._last:
            return array.astype(np.int64)  # a comparison of arrays takes longer than all else here
        outside = (array < self._first) | (array > self._last)
        if active is not None:
            outside &= active
        if outside.any():
            row = int(outside.argmax())
            raise InvalidActionError(
                f"got action {array[row]} in row {row}, expected an integer from {self._first} to {self._last}"
            )
        result = array.astype(np.int64)
        if active is not None:
            result[~active] = self._first
        return result

    def _check_box(self, actions: Any, rows: int, active: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        array = _as_array(actions, self._space)
        expected = (rows, *self._low.shape)
        if array.shape != expected or array.dtype.kind not in "iuf":
            raise InvalidActionError(
                f"got actions of shape {array.shape} and dtype {array.dtype}, expected numbers of shape {expected}: "
                f"{rows} of {self._space}"
            )
        result = array.astype(np.float32)
        if rows == 1 and active is None and all(map(_is_within, self._bounds, result.ravel().tolist())):
            return result
        if active is None and (result >= self._low).all() and (result <= self._high).all():
            return result
        outside = ~((result >= self._low) & (result <= self._high))
        if active is not None:
            outside &= active[:, None]
        if outside.any():
            row, column = (int(place) for place in np.argwhere(outside)[0])
            value = result[row, column]
            if not np.isfinite(value):
                raise InvalidActionError(f"got {value} in row {row}, column {column}, expected a finite number")
            raise InvalidActionError(
                f"got {value} in row {row}, column {column}, expected a number from {self._space.low[column]} to "  # type: ignore[attr-defined]
                f"{self._space.high[column]}. Clip it: np.clip(action, space.low, space.high)"  # type: ignore[attr-defined]
            )
        if active is not None:
            result[~active] = self._inside
        return result


def _is_within(bounds: tuple[float, float], number: float) -> bool:
    return bounds[0] <= number <= bounds[1]


def _as_array(actions: Any, space: gym.Space[Any]) -> NDArray[Any]:
    try:
        return np.asarray(actions)
    except (ValueError, TypeError) as error:
        raise InvalidActionError(f"got actions that are no array ({error}), expected a batch of {space}") from error
