"""Scripts that start workers whenever they are imported, which a spawned worker does first of all."""

from __future__ import annotations

import multiprocessing
import os

from dreamenv.errors import ConfigurationError

WORKER_NAME = "dreamenv worker "
# Exit status of a worker whose main module starts workers when it is imported (EX_CONFIG of sysexits.h)
UNGUARDED = 78


def refuse_unguarded() -> None:
    """End this process if it is a worker that imports its main module: what starts workers there has no guard.

    Raises:
        ConfigurationError: In a process that somebody else has spawned.
    """
    process = multiprocessing.current_process()
    if not getattr(process, "_inheriting", False):
        return
    if process.name.startswith(WORKER_NAME):
        os._exit(UNGUARDED)  # the parent says what is wrong, once
    raise ConfigurationError('a spawned process starts workers: the script needs its `if __name__ == "__main__":`')
