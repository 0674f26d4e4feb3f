"""`dreamenv play`, without a screen and on a virtual one."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dreamenv
from dreamenv.errors import ConfigurationError
from tests.cli import screen
from tests.command_line import call
from tests.fakes import trained_like_world_model, write_registry
from tests.play.openings import CHOICE, small_opening

_PATIENCE = 180.0


def test_help_names_the_keys() -> None:
    shown = call("play", "--help").stdout
    assert "Example: dreamenv play" in shown
    assert "H hands over" in " ".join(shown.split())


@pytest.mark.parametrize("player", [[], ["--agent", "random"]])
def test_a_dream_is_played(player: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    dreamenv.register(write_registry(tmp_path, "DreamPlayed-v0", trained_like_world_model()))
    result = call("play", "DreamPlayed-v0", "--episodes", "2", "--steps", "2", *player)
    assert result.exit_code == 0
    assert re.match(r"episode 2: [12] actions?, return ", result.stdout.splitlines()[1])  # a dream may end by itself


def test_a_recording_is_a_video(tmp_path: Path) -> None:
    dreamenv.register(write_registry(tmp_path, "DreamPlayed-v0", trained_like_world_model()))
    with pytest.raises(ConfigurationError, match=r"ends in \.mp4 or \.gif"):
        call("play", "DreamPlayed-v0", "--record", "clip.avi")


class Game:
    """`dreamenv play` on a virtual screen; `lines` are what it has printed."""

    def __init__(self, display: screen.Screen, folder: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "dreamenv", "play", *arguments]
        self.display = display
        self.lines: list[str] = []
        root = Path(__file__).resolve().parents[2]
        environment = display.environment | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)

    def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Return once `condition()` holds."""
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert self.process.poll() is None, f"it ended while waiting for {what}: {self.lines}"
            assert time.monotonic() < end, f"waited {_PATIENCE:g} s for {what}: {self.lines}"
            time.sleep(0.1)

    def focus(self) -> None:
        """Give the window the keyboard, once it is there; without a window manager nobody else does."""
        found: list[str] = []

        def look() -> list[str]:
            try:
                found[:] = self.display.press("search", "--class", ".").split()
            except subprocess.CalledProcessError:
                found.clear()  # there is none yet
            return found

        self.wait(look, "the window")
        self.display.press("windowfocus", "--sync", found[0])

    def press(self, name: str, line: str) -> None:
        """Press a key and wait for the line it brings."""
        count = self.lines.count(line)
        self.display.press("key", name)
        self.wait(lambda: self.lines.count(line) > count, line)

    def steps(self) -> list[int]:
        """Numbers of the single steps that were taken."""
        return [int(line.split()[1]) for line in list(self.lines) if line.startswith("step ")]

    def shows(self, grey: int) -> bool:
        """Whether a picture of that one grey is on the screen."""
        return bool((self.display.pixels() == grey).all(axis=2).sum() > 300 * 300)

    def changes(self, seconds: float = 1.5) -> bool:
        """Whether the picture on the screen changes within so many seconds."""
        first, end = self.display.pixels(), time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            if (self.display.pixels() != first).any():
                return True
        return False

    def close(self) -> None:
        """End it, however it stands."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)
        self._reader.join(60)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(screen.missing() is not None, reason=str(screen.missing()))
def test_real_keys_on_a_virtual_screen(tmp_path: Path) -> None:
    """Drive, pause, step, hand over, warm up, record, go to the real environment and back, and leave."""
    pytest.importorskip("pygame")
    model = trained_like_world_model(action_space=CHOICE, real=small_opening(real={"lifetime": 4}).model.real)
    registry = write_registry(tmp_path, "DreamPlayed-v0", model)
    with screen.virtual_screen(tmp_path) as display:
        display.environment["DREAMENV_REGISTRY"] = str(registry)
        game = Game(display, tmp_path, "DreamPlayed-v0", "--record", "clip.gif")
        try:
            game.focus()
            game.wait(game.changes, "a picture that moves")
            game.press("space", "paused")
            game.wait(lambda: not game.changes(), "a picture that stands still")
            for count in (1, 2):
                display.press("key", "period")
                game.wait(lambda count=count: len(game.steps()) == count, "a step")
            assert game.steps()[1] in (game.steps()[0] + 1, 0), "the next step, or the next episode"
            game.press("h", "at the wheel: human")
            game.press("bracketright", "temperature 1.30")
            game.press("equal", "speed 26")
            game.press("v", "recording")
            game.press("t", "in the real environment")
            game.wait(lambda: game.shows(100), "the real frame beside the decoded one")
            # Left is action 2, an action is two real frames, and the reward of a frame is its action
            display.press("keydown", "Left")
            game.press("period", "step 1")
            game.press("period", "step 2")
            display.press("keyup", "Left")
            game.wait(lambda: game.lines[-1].endswith("2 actions, return 8.0, terminated"), "the end of the episode")
            game.wait(lambda: game.shows(108), "the last real frame")
            game.press("space", "resumed")
            game.press("t", "in a race of dream and real environment")
            game.press("t", "in the dream")
            game.wait(game.changes, "a dream that moves")
            game.press("v", "recorded clip.gif")
            assert (tmp_path / "clip.gif").stat().st_size > 1000
            display.press("key", "Escape")
            assert game.process.wait(_PATIENCE) == 0
        finally:
            game.close()
    print("\n".join(game.lines))


def test_the_screen_is_read_as_it_is(tmp_path: Path) -> None:
    if screen.missing() is not None:
        pytest.skip(str(screen.missing()))
    with screen.virtual_screen(tmp_path, (320, 200)) as display:
        pixels = display.pixels()
    assert pixels.shape == (200, 320, 3)
    assert pixels.dtype == np.uint8
