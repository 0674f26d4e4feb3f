"""Millions of dreamed steps and thousands of environments, in flat memory."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass, field
from pathlib import Path

import gymnasium as gym
import numpy as np

import dreamenv  # noqa: F401  (registers the dreams)

# Python's and torch's allocators keep some of what they had
MOST_GROWTH_MB = 40.0


@dataclass
class Endured:
    """What was measured.

    Attributes:
        key: Its name among the figures.
        what: What was repeated.
        count: How often.
        grown_mb: Growth of resident memory after a warm-up.
        more_files: Open files more than before.
        faults: What must not be.
    """

    key: str
    what: str
    count: int
    grown_mb: float = 0.0
    more_files: int = 0
    faults: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Note what has grown too far."""
        if self.grown_mb > MOST_GROWTH_MB:
            self.faults.append(f"{self.what}: memory has grown by {self.grown_mb:.0f} MB")
        if self.more_files > 2:
            self.faults.append(f"{self.what}: {self.more_files} more files are open")


def resident_mb(process: int | None = None) -> float:
    """Resident memory of a process, this one by default."""
    pages = int(Path(f"/proc/{process or 'self'}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def dream_on(dream: str, steps: int, *, rows: int = 1024) -> Endured:
    """Dream `steps` steps of random actions; nothing that is seen or earned may be other than finite."""
    envs = gym.make_vec(dream, num_envs=rows)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    calls = -(-steps // rows)
    found = Endured(f"steps-{dream}", f"steps of {dream}", calls * rows)
    warm = max(1, calls // 20)
    for call in range(calls):
        observation, reward, *_ = envs.step(envs.action_space.sample())
        if not (np.isfinite(observation).all() and np.isfinite(reward).all()):
            found.faults.append(f"{dream}: not finite at call {call}")
            break
        if call == warm:
            gc.collect()
            before = resident_mb()
    gc.collect()
    found.grown_mb = resident_mb() - before
    envs.close()
    found.check()
    return found


def make_and_close(dream: str, times: int) -> Endured:
    """Make an environment, step once and close it, again and again."""
    found = Endured("environments", f"gym.make and close of {dream}", times)

    def once() -> None:
        env = gym.make(dream)
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()

    for _ in range(max(1, times // 20)):
        once()
    gc.collect()
    before, files = resident_mb(), open_files()
    for _ in range(times):
        once()
    gc.collect()
    found.grown_mb, found.more_files = resident_mb() - before, open_files() - files
    found.check()
    return found
