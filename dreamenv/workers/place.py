"""Where tasks run: what `workers=` means everywhere."""

from __future__ import annotations

import os

from dreamenv.errors import ConfigurationError
from dreamenv.workers.local import refuse_unguarded


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_count(workers: int | None, tasks: int | None = None) -> int:
    """Processes to start for `tasks` tasks (None: not known how many): what `workers=` means everywhere.

    Args:
        workers: 0 for none, so that this process does the work; None for one a core, and for none where there is one
            core or one task.

    Raises:
        ConfigurationError: Fewer than 0; or a script that starts workers whenever it is imported.
    """
    if workers is not None and workers < 0:
        raise ConfigurationError(f"workers must be at least 0 (0 works in this process), got {workers}")
    most = cores() if workers is None else workers
    found = most if tasks is None else min(most, tasks)
    count = 0 if workers is None and found == 1 else found
    if count:
        refuse_unguarded()
    return count
