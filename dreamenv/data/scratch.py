"""A folder of its own for an environment that writes into the one in which it is made."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym

# The current folder is the whole process's
_lock = threading.Lock()


@contextmanager
def _current(folder: Path) -> Iterator[None]:
    with _lock:
        before = Path.cwd()
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new empty folder that is the current one within the block; unless the block fails, it is left to the caller."""
    folder = Path(tempfile.mkdtemp(prefix="dreamenv-"))
    try:
        with _current(folder):
            yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class InScratchFolder(gym.Wrapper[Any, Any, Any, Any]):
    """An environment that was made in `folder`, begins its episodes there (ViZDoom's engine starts with the first), and
    whose folder is removed when it is closed or forgotten, or the process ends."""

    def __init__(self, env: gym.Env[Any, Any], folder: Path) -> None:
        super().__init__(env)
        self._folder = folder
        self._leave = weakref.finalize(self, _leave, env, folder)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        with _current(self._folder):
            return super().reset(seed=seed, options=options)

    def close(self) -> None:
        """Close the environment, which may still write, then remove the folder."""
        self._leave()


def _leave(env: gym.Env[Any, Any], folder: Path) -> None:
    try:
        env.close()  # ViZDoom's engine saves its settings, and complains where it cannot
    finally:
        shutil.rmtree(folder, ignore_errors=True)
