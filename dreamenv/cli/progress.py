"""Progress with a rate and an ETA: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

# A rate over less time than this says nothing
_SHORTEST_S = 0.5
_TIMED_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}"


class Progress:
    """Progress of one stage.

    Args:
        label: Name of the stage.
        total: Units of the whole stage; None when it is not known.
        unit: Name of a unit.
        every: Least seconds between plain lines.
    """

    def __init__(self, label: str, total: int | None, unit: str, *, every: float = 10.0) -> None:
        self._label, self._total, self._unit, self._every = label, total, unit, every
        self._bar = tqdm(total=total, desc=label, unit=f" {unit}") if sys.stderr.isatty() else None
        self._begin = self._last = time.monotonic()
        self._first: int | None = None

    def update(self, reached: int, text: str = "", *, total: int | None = None) -> None:
        """The stage has reached `reached` units; `text` says how it goes, `total` is given where it has grown."""
        self._total = total or self._total
        if self._bar is not None:
            self._bar.n, self._bar.total = reached, self._total
            self._bar.set_postfix_str(text)
            return
        now = time.monotonic()
        if self._first is None:
            # what an interrupted run had reached does not count in the rate
            self._first = reached
        ended = self._total is not None and reached >= self._total
        if now - self._last < self._every and not ended:
            return
        self._last = now
        parts = [
            f"{reached:,}" + (f"/{self._total:,}" if self._total is not None else ""),
            *self._rate(reached, now - self._begin),
        ]
        print(f"{self._label}: " + ", ".join(parts) + (f"  {text}" if text else ""), file=sys.stderr, flush=True)

    def _rate(self, reached: int, seconds: float) -> list[str]:
        """Units per second and the time that is left; nothing while there is no rate."""
        assert self._first is not None
        if seconds < _SHORTEST_S or reached <= self._first:
            return []
        rate = (reached - self._first) / seconds
        left = None if self._total is None else max(self._total - reached, 0) / rate
        return [f"{rate:,.1f} {self._unit}/s", *([] if left is None else [f"ETA {left:,.0f} s"])]

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


class Countdown:
    """Progress of a stage that ends with its time.

    Args:
        label: Name of the stage.
        seconds: How long it lasts.
        every: Least seconds between plain lines.
    """

    def __init__(self, label: str, seconds: float, *, every: float = 10.0) -> None:
        self._label, self._total, self._every = label, seconds, every
        self._bar = tqdm(total=seconds, desc=label, bar_format=_TIMED_BAR) if sys.stderr.isatty() else None
        self._begin = self._last = time.monotonic()

    def update(self, reached: int, text: str = "") -> None:
        """Show how much of the time is over; `text` says how it goes."""
        now = time.monotonic()
        gone = min(now - self._begin, self._total)
        if self._bar is not None:
            self._bar.n = gone
            self._bar.set_postfix_str(text)
        elif now - self._last >= self._every:
            self._last = now
            print(f"{self._label}: {gone:.0f}/{self._total:.0f} s  {text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def show_scalars(scalars: dict[str, float]) -> str:
    """Scalars as a short line."""
    return " ".join(f"{name}={value:.4g}" for name, value in scalars.items())
