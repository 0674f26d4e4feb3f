"""Bounds on what players may use: seats, real games, and messages a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Places:
    """A number of places that are taken and given back, from any thread.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._taken

    def take(self) -> bool:
        """Take a place; False when there is none."""
        with self._lock:
            if self._taken >= self.count:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        """Give a taken place back."""
        with self._lock:
            self._taken -= 1


class TokenBucket:
    """Lets `rate` events a second pass, and `burst` at once after a silence.

    Args:
        rate: Events a second.
        burst: Most events at once.
        clock: Seconds.
    """

    def __init__(self, rate: float, burst: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._level, self._last = burst, clock()

    def allow(self) -> bool:
        """Whether one more event may pass now; if so, it counts."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._last) * self._rate)
        self._last = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True
