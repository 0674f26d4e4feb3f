"""A window on a drive: pictures, figures, keyboard and gamepad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.envs.render import draw_bars, enlarge
from dreamenv.errors import DreamEnvError, missing_extra
from dreamenv.play import hands
from dreamenv.play.controls import key_labels
from dreamenv.play.drive import DREAM, RATES, REAL, Drive
from dreamenv.play.driver import AGENT, HUMAN
from dreamenv.play.hands import COMMANDS, Hands
from dreamenv.play.recorder import Recorder

FRAMES_PER_SECOND = 30
_SIDE, _MARGIN, _LINE = 384, 16, 24
_WIDTH, _HEIGHT = 2 * _SIDE + 3 * _MARGIN, _SIDE + 3 * _MARGIN + 5 * _LINE
_BACKGROUND, _INK, _QUIET, _WARM = (21, 21, 23), (233, 230, 224), (160, 154, 145), (240, 147, 111)
_SIGNS = {"LEFT": "Left", "RIGHT": "Right", "UP": "Up", "DOWN": "Down"}


class PlayWindow:
    """A pygame window in which a drive is played.

    Args:
        drive: The game.
        record_to: File of the first recording.
        report: Receives a line whenever something changes.

    Raises:
        MissingExtraError: pygame is not installed.
    """

    def __init__(self, drive: Drive, *, record_to: Path, report: Callable[[str], None] = print) -> None:
        try:
            import pygame
        except ImportError as error:
            raise missing_extra("pygame", "real") from error
        self._pygame: Any = pygame
        self._drive = drive
        self._record_to = record_to
        self._report = report
        self._recorder: Recorder | None = None
        self._message = ""
        self._seen = drive.moment
        pygame.display.init()
        pygame.font.init()
        pygame.joystick.init()
        pygame.display.set_caption(f"dreamenv: {drive.opening.id}")
        self._screen = pygame.display.set_mode((_WIDTH, _HEIGHT))
        self._font, self._large = pygame.font.Font(None, 22), pygame.font.Font(None, 34)
        self._hands = Hands(pygame)

    def run(self, *, episodes: int | None = None, steps: int | None = None) -> None:
        """Play until the window is closed, or for so many episodes of at most so many steps."""
        drive, clock, seconds, played = self._drive, self._pygame.time.Clock(), 0.0, 0
        while not self._obey_all():
            drive.driver.controls = self._hands.controls
            self._try(drive.advance, seconds, 1.0 / FRAMES_PER_SECOND)
            moment = drive.moment
            if moment is not self._seen:
                self._seen = moment
                self._keep()
                if moment.ended or moment.step == steps:
                    played += 1
                    self._report(
                        f"episode {played}: {moment.step} actions, return {moment.undiscounted_return:.1f}"
                        + (f", {moment.ended}" if moment.ended else "")
                    )
                    if played == episodes:
                        return
                    if not moment.ended:
                        self._try(drive.reset)
            self._draw()
            seconds = clock.tick(FRAMES_PER_SECOND) / 1000.0

    def close(self) -> None:
        """Finish a recording, end the real game, close the window."""
        try:
            self._stop_recording()
        finally:
            self._drive.close()
            self._pygame.quit()

    def _obey_all(self) -> bool:
        """Act upon the events that came; True when it is time to leave."""
        for event in self._pygame.event.get():
            command = self._hands.follow(event)
            if command == hands.QUIT:
                return True
            if command is not None:
                self._message = ""
                self._try(self._obey, command)
        return False

    def _try(self, act: Callable[..., Any], *arguments: Any) -> None:
        try:
            act(*arguments)
        except DreamEnvError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        self._message = text
        self._report(text)

    def _obey(self, command: str) -> None:
        drive = self._drive
        match command:
            case hands.PAUSE:
                drive.paused = not drive.paused
                self._report("paused" if drive.paused else "going on")
            case hands.STEP:
                drive.paused = True
                drive.driver.controls = self._hands.controls
                drive.step()
                self._report(f"step {drive.moment.step}")
            case hands.RESET:
                drive.reset()
                self._report("begun anew")
            case hands.HAND_OVER:
                drive.wheel = AGENT if drive.wheel == HUMAN else HUMAN
                self._report(f"at the wheel: {drive.wheel}")
            case hands.SWITCH:
                self._switch()
            case hands.COOLER | hands.HOTTER:
                drive.temperature += 0.05 if command == hands.HOTTER else -0.05
                self._report(f"temperature {drive.temperature:.2f}")
            case hands.SLOWER | hands.FASTER:
                drive.rate = float(np.clip(drive.rate + (1 if command == hands.FASTER else -1), *RATES))
                self._report(f"speed {drive.rate:g}")
            case hands.RECORD:
                if self._recorder is None:
                    self._recorder = Recorder(self._record_to, drive.rate)
                    self._report("recording")
                else:
                    self._stop_recording()

    def _switch(self) -> None:
        drive = self._drive
        if drive.world == DREAM:
            self._message = "starting the real environment ..."
            self._draw()
        drive.enter(REAL if drive.world == DREAM else DREAM)
        self._message = ""
        self._report(f"in the {'real environment' if drive.world == REAL else 'dream'}")

    def _keep(self) -> None:
        recorder, moment = self._recorder, self._drive.moment
        if recorder is None:
            return
        real = None if moment.frame is None else self._picture(moment.frame)
        recorder.add(self._decoded(moment.latent), real, f"return {moment.undiscounted_return:.0f}")
        if recorder.full:
            self._stop_recording()

    def _stop_recording(self) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            self._say(f"recorded {recorder.write()}")

    def _decoded(self, latent: NDArray[np.float32]) -> NDArray[np.uint8]:
        return self._drive.pictures(latent[None])[0] if self._drive.opening.model.vision.is_image else _bars(latent)

    def _picture(self, observation: NDArray[Any]) -> NDArray[np.uint8]:
        return observation if observation.ndim == 3 else _bars(observation)

    def _draw(self) -> None:
        drive = self._drive
        self._screen.fill(_BACKGROUND)
        right = 2 * _MARGIN + _SIDE
        self._blit(self._decoded(drive.latent), _MARGIN)
        if drive.moment.frame is not None:
            self._blit(self._picture(drive.moment.frame), right)
            self._write("the real environment", right, _MARGIN + _SIDE + 4, _QUIET)
            self._write("as the model sees it", _MARGIN, _MARGIN + _SIDE + 4, _QUIET)
        else:
            self._write("the dream", _MARGIN, _MARGIN + _SIDE + 4, _QUIET)
            self._draw_keys(right)
        self._draw_figures(2 * _MARGIN + _SIDE + _LINE)
        self._pygame.display.flip()

    def _draw_keys(self, left: int) -> None:
        driving = {_SIGNS.get(k, k): label for k, label in key_labels(self._drive.opening.model.action_space).items()}
        rows = [*driving.items(), *((sign, meaning) for sign, meaning, _ in COMMANDS.values())]
        for place, (sign, meaning) in enumerate(rows[: _SIDE // _LINE]):
            self._write(sign, left, _MARGIN + place * _LINE, _INK)
            self._write(meaning, left + 90, _MARGIN + place * _LINE, _QUIET)

    def _draw_figures(self, top: int) -> None:
        drive, moment = self._drive, self._drive.moment
        figures = (
            ("return", f"{moment.undiscounted_return:.1f}"),
            ("predicted reward", f"{moment.predicted_reward:+.2f}"),
            ("termination probability", f"{moment.termination_probability:.1%}"),
            ("steps a second", f"{drive.steps_per_second:.1f}"),
        )
        for place, (label, value) in enumerate(figures):
            left = _MARGIN + place * (_WIDTH - _MARGIN) // len(figures)
            self._write(label, left, top, _QUIET)
            self._write(value, left, top + 20, _INK, self._large)
        parts = [
            f"{drive.world}",
            f"{drive.wheel} at the wheel",
            f"temperature {drive.temperature:.2f}",
            f"step {moment.step}",
            "paused" if drive.paused else f"speed {drive.rate:g}",
            *([moment.ended] if moment.ended else []),
            *(["recording"] if self._recorder is not None else []),
        ]
        self._write("   ".join(parts), _MARGIN, top + 2 * _LINE + 8, _INK)
        self._write(self._message[:110], _MARGIN, top + 3 * _LINE + 8, _WARM)

    def _blit(self, picture: NDArray[np.uint8], left: int) -> None:
        large = enlarge(picture[None], _SIDE)[0]
        self._screen.blit(self._pygame.surfarray.make_surface(large.swapaxes(0, 1)), (left, _MARGIN))

    def _write(self, text: str, left: int, top: int, colour: tuple[int, int, int], font: Any = None) -> None:
        self._screen.blit((font or self._font).render(text, True, colour), (left, top))


def _bars(values: NDArray[Any]) -> NDArray[np.uint8]:
    return draw_bars(values, _SIDE // 2)
