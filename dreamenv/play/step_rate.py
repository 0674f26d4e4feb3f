"""How fast steps come."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_WINDOW = 2.0


class StepRate:
    """Steps a second over the last two seconds.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: deque[float] = deque(maxlen=256)

    def count(self) -> None:
        """A step was taken."""
        self._times.append(self._clock())

    def begin(self) -> None:
        """Forget the steps so far, after time stood still."""
        self._times.clear()

    @property
    def value(self) -> float:
        """Steps a second; 0 with fewer than two steps in the last two seconds."""
        now = self._clock()
        recent = [moment for moment in self._times if now - moment <= _WINDOW]
        return 0.0 if len(recent) < 2 else (len(recent) - 1) / max(recent[-1] - recent[0], 1e-9)
