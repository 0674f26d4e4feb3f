"""How a verb is stopped: SIGTERM unwinds it as Ctrl-C does."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Statuses of a stopped verb: 128 and the number of the signal
INTERRUPTED, TERMINATED = 130, 143


@contextmanager
def unwinding() -> Iterator[None]:
    """Within it SIGTERM raises SystemExit of status TERMINATED, once: a second one would disturb the clearing up."""

    def unwind(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
