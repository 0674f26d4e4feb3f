"""Progress with a rate and an ETA: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm


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
        self._bar = tqdm(total=total, desc=label, unit=unit) if sys.stderr.isatty() else None
        self._begin = self._last = time.monotonic()
        self._first: int | None = None

    def update(self, reached: int, text: str = "") -> None:
        """The stage has reached `reached` units; `text` says how it goes."""
        if self._bar is not None:
            self._bar.n = reached
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
        rate = (reached - self._first) / max(now - self._begin, 1e-9)
        parts = [
            f"{reached:,}" + (f"/{self._total:,}" if self._total is not None else ""),
            f"{rate:,.1f} {self._unit}/s",
        ]
        if self._total is not None and rate > 0:
            parts.append(f"ETA {max(self._total - reached, 0) / rate:,.0f} s")
        print(f"{self._label}: " + ", ".join(parts) + (f"  {text}" if text else ""), file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


def show_scalars(scalars: dict[str, float]) -> str:
    """Scalars as a short line."""
    return " ".join(f"{name}={value:.4g}" for name, value in scalars.items())
