"""Runners that only a worker on a Ray cluster makes; its processes do not find this module by themselves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.workers import Parcel


def make_square(setup: int) -> Callable[[int], tuple[int, int]]:
    return lambda task: (setup * task * task, os.getpid())


def make_slow(setup: float) -> Callable[[int], tuple[int, int]]:
    def run(task: int) -> tuple[int, int]:
        time.sleep(setup)
        return task, os.getpid()

    return run


def make_reader(setup: Parcel) -> Callable[[str], bytes]:
    """What came along, read from where it was laid out."""
    import tempfile

    folder = setup.lay_out(Path(tempfile.mkdtemp()))
    return lambda task: (folder / task).read_bytes()


def make_fragile(folder: str) -> Callable[[int], int]:
    """Task 1 kills its process the first time, and leaves a program behind."""

    def run(task: int) -> int:
        mark = Path(folder) / "died"
        if task == 1 and not mark.exists():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], close_fds=False)
            mark.write_text(str(child.pid), encoding="utf-8")
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    return run


def make_hanging(folder: str) -> Callable[[int], int]:
    def run(task: int) -> int:
        mark = Path(folder) / "hung"
        if task == 1 and not mark.exists():
            mark.touch()
            time.sleep(300)
        return task

    return run


def make_large(setup: bool) -> Callable[[int], Any]:
    """Results that go through the object store: of zeros, or of what no compression makes smaller."""
    return lambda task: np.zeros(10**6) if setup else np.random.default_rng(task).bytes(10**6)


def make_failing(setup: None) -> Callable[[int], int]:
    def run(task: int) -> int:
        raise ZeroDivisionError(f"task {task}")

    return run
