"""A virtual screen whose pixels can be read and whose keys can be pressed: Xvfb and xdotool."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROGRAMS = ("Xvfb", "xdotool")


def missing() -> str | None:
    """Why there is no virtual screen; None if there is one."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{' and '.join(lacking)} not installed (Debian: apt-get install xvfb xdotool)" if lacking else None


class Screen:
    """A running Xvfb.

    Attributes:
        environment: Environment variables of programs that shall use it.
    """

    def __init__(self, display: str, folder: Path) -> None:
        self.environment = {**os.environ, "DISPLAY": display, "SDL_VIDEODRIVER": "x11", "SDL_AUDIODRIVER": "dummy"}
        self._memory = folder / "Xvfb_screen0"

    def press(self, *arguments: str) -> str:
        """Run xdotool, whose keys go to the window in focus; returns what it printed."""
        found = subprocess.run(
            ["xdotool", *arguments], env=self.environment, capture_output=True, text=True, check=True, timeout=120
        )
        return found.stdout

    def pixels(self) -> NDArray[np.uint8]:
        """The screen `[H, W, 3]`, from its memory in the X window dump format, version 7."""
        data = self._memory.read_bytes()
        header = np.frombuffer(data, ">u4", 25)
        size, width, height, line, colours = (int(header[place]) for place in (0, 4, 5, 12, 19))
        rows = np.frombuffer(data, np.uint8, height * line, offset=size + 12 * colours).reshape(height, line)
        return rows[:, : 4 * width].reshape(height, width, 4)[:, :, 2::-1].copy()


@contextlib.contextmanager
def virtual_screen(folder: Path, size: tuple[int, int] = (1000, 700)) -> Iterator[Screen]:
    """An Xvfb on a free display, ended with the context."""
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size[0]}x{size[1]}x24", "-fbdir", str(folder)]
    server = subprocess.Popen([*command, "-nolisten", "tcp"], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as pipe:
            yield Screen(f":{pipe.readline().strip()}", folder)
    finally:
        server.terminate()
        server.wait(60)
