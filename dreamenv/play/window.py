"""A window on a game: pictures, figures, keyboard and gamepad."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.envs.render import draw_bars, enlarge
from dreamenv.errors import ConfigurationError, DreamEnvError, missing_extra
from dreamenv.play import devices
from dreamenv.play.devices import COMMANDS, Devices
from dreamenv.play.driver import AGENT, HUMAN
from dreamenv.play.game import DREAM, RACE, RATES, WORLDS, Game
from dreamenv.play.video_recorder import VideoRecorder

FRAMES_PER_SECOND = 30
_SIDE, _MARGIN, _LINE = 384, 16, 24
_WIDTH, _HEIGHT = 2 * _SIDE + 3 * _MARGIN, _SIDE + 3 * _MARGIN + 6 * _LINE
# Whichever of these is there; pygame's own font spaces its letters badly at this size
_FONTS = "dejavusans,notosans,liberationsans,segoeui,helveticaneue,arial"
_ALWAYS_SHOWN = (devices.PAUSE, devices.RESET, devices.HAND_OVER, devices.SWITCH, devices.RECORD, devices.QUIT)
_NAMES = {DREAM: "the dream", RACE: "a race of dream and real environment"}
_BACKGROUND, _INK, _QUIET, _WARM = (21, 21, 23), (233, 230, 224), (160, 154, 145), (240, 147, 111)
_SIGNS = {"LEFT": "Left", "RIGHT": "Right", "UP": "Up", "DOWN": "Down"}


class PlayWindow:
    """A pygame window in which a game is played.

    Args:
        game: The game.
        record_to: File of the first recording.
        report: Receives a line whenever something changes.

    Raises:
        MissingExtraError: pygame is not installed.
        ConfigurationError: There is no display.
    """

    def __init__(self, game: Game, *, record_to: Path, report: Callable[[str], None] = print) -> None:
        try:
            import pygame
        except ImportError as error:
            raise missing_extra("pygame", "real") from error
        self._pygame: Any = pygame
        self._game = game
        self._record_to = record_to
        self._report = report
        self._recorder: VideoRecorder | None = None
        self._message = ""
        self._seen = game.moment
        _open_display(pygame, game.opening.id)
        pygame.font.init()
        pygame.joystick.init()
        pygame.display.set_caption(f"dreamenv: {game.opening.id}")
        self._window = pygame.display.set_mode((_WIDTH, _HEIGHT), pygame.RESIZABLE)
        self._screen = pygame.Surface((_WIDTH, _HEIGHT))  # as large as the window at first, then enlarged to it
        self._font, self._large = pygame.font.SysFont(_FONTS, 15), pygame.font.SysFont(_FONTS, 22)
        self._devices = Devices(pygame)

    def run(self, *, episodes: int | None = None, steps: int | None = None) -> None:
        """Play until the window is closed, or for so many episodes of at most so many steps."""
        game, clock, seconds, played = self._game, self._pygame.time.Clock(), 0.0, 0
        while not self._obey_all():
            game.hands = self._devices.hands
            self._try(game.advance, seconds, 1.0 / FRAMES_PER_SECOND)
            moment = game.moment
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
                        self._try(game.reset)
            self._draw()
            seconds = clock.tick(FRAMES_PER_SECOND) / 1000.0

    def close(self) -> None:
        """Finish a recording, end the real game, close the window."""
        try:
            self._stop_recording()
        finally:
            self._game.close()
            self._pygame.quit()

    def _obey_all(self) -> bool:
        """Act upon the events that came; True when it is time to leave."""
        for event in self._pygame.event.get():
            command = self._devices.follow(event)
            if command == devices.QUIT:
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
        game = self._game
        match command:
            case devices.PAUSE:
                game.paused = not game.paused
                self._report("paused" if game.paused else "resumed")
            case devices.STEP:
                game.paused = True
                game.hands = self._devices.hands
                game.step()
                self._report(f"step {game.moment.step}")
            case devices.RESET:
                game.reset()
                self._report("restarted")
            case devices.HAND_OVER:
                game.wheel = AGENT if game.wheel == HUMAN else HUMAN
                self._report(f"at the wheel: {game.wheel}")
            case devices.SWITCH:
                self._switch()
            case devices.COOLER | devices.HOTTER:
                game.temperature += 0.05 if command == devices.HOTTER else -0.05
                self._report(f"temperature {game.temperature:.2f}")
            case devices.SLOWER | devices.FASTER:
                game.rate = float(np.clip(game.rate + (1 if command == devices.FASTER else -1), *RATES))
                self._report(f"speed {game.rate:g}")
            case devices.RECORD:
                if self._recorder is None:
                    self._recorder = VideoRecorder(self._record_to, game.rate)
                    self._report("recording")
                else:
                    self._stop_recording()

    def _switch(self) -> None:
        game = self._game
        if game.world == DREAM:
            self._message = "starting the real environment ..."
            self._draw()
        game.enter(WORLDS[(WORLDS.index(game.world) + 1) % len(WORLDS)])
        self._message = ""
        self._report(f"in {_NAMES.get(game.world, 'the real environment')}")

    def _keep(self) -> None:
        recorder, moment = self._recorder, self._game.moment
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
        return self._game.pictures(latent[None])[0] if self._game.opening.model.vision.draws else _bars(latent)

    def _picture(self, observation: NDArray[Any]) -> NDArray[np.uint8]:
        return observation if observation.ndim == 3 else _bars(observation)

    def _draw(self) -> None:
        game = self._game
        self._screen.fill(_BACKGROUND)
        right, below = 2 * _MARGIN + _SIDE, _MARGIN + _SIDE + 4
        self._blit(self._decoded(game.latent), _MARGIN)
        if game.moment.frame is not None:
            self._blit(self._picture(game.moment.frame), right)
            self._write("the real environment", right, below, _QUIET)
            self._write("the dream" if game.world == RACE else "as the model sees it", _MARGIN, below, _QUIET)
        else:
            self._write("the dream", _MARGIN, below, _QUIET)
            self._draw_keys(right)
        self._draw_figures(2 * _MARGIN + _SIDE + _LINE)
        self._show()

    def _show(self) -> None:
        """The screen in the window, as large as it fits."""
        width, height = self._window.get_size()
        scale = min(width / _WIDTH, height / _HEIGHT)
        size = round(_WIDTH * scale), round(_HEIGHT * scale)
        place = (width - size[0]) // 2, (height - size[1]) // 2
        self._window.fill(_BACKGROUND)
        shown = self._screen if scale == 1 else self._pygame.transform.smoothscale(self._screen, size)
        self._window.blit(shown, place)
        self._pygame.display.flip()

    def _draw_keys(self, left: int) -> None:
        driving = {_SIGNS.get(key, key): label for key, label in self._game.driver.keys.labels.items()}
        rows = [*driving.items(), *((sign, meaning) for sign, meaning, _ in COMMANDS.values())]
        for place, (sign, meaning) in enumerate(rows[: _SIDE // _LINE]):
            self._write(sign, left, _MARGIN + place * _LINE, _INK)
            self._write(meaning, left + 90, _MARGIN + place * _LINE, _QUIET)

    def _draw_figures(self, top: int) -> None:
        game, moment = self._game, self._game.moment
        figures = [
            ("return", f"{moment.undiscounted_return:.1f}"),
            ("predicted reward", f"{moment.predicted_reward:+.2f}"),
            ("chance the game ends", f"{moment.termination_probability:.1%}"),
            ("steps a second", f"{game.steps_per_second:.1f}"),
        ]
        if moment.race is not None:
            figures[0] = ("return, dream", figures[0][1])
            figures[1:3] = [
                ("return, real", f"{moment.race.real_return:.1f}"),
                ("drift", f"{moment.race.drift:.0%}"),
            ]
        for place, (label, value) in enumerate(figures):
            left = _MARGIN + place * (_WIDTH - _MARGIN) // len(figures)
            self._write(label, left, top, _QUIET)
            self._write(value, left, top + 18, _INK, self._large)
        parts = [
            f"{'you drive' if game.wheel == HUMAN else 'the agent drives'}",
            f"temperature {game.temperature:.2f}",
            f"step {moment.step}",
            "paused" if game.paused else f"speed {game.rate:g}",
            *([moment.ended] if moment.ended else []),
            *(["recording"] if self._recorder is not None else []),
        ]
        self._write("  |  ".join(parts), _MARGIN, top + 2 * _LINE + 8, _INK)
        invitation = "Press a driving key to take over." if game.wheel == AGENT else ""
        self._write((self._message or invitation)[:110], _MARGIN, top + 3 * _LINE + 8, _WARM)
        # The list of keys gives way to the real picture
        keys = "   ".join(f"{COMMANDS[name][0]} {COMMANDS[name][1]}" for name in _ALWAYS_SHOWN)
        self._write(keys, _MARGIN, top + 4 * _LINE + 8, _QUIET)

    def _blit(self, picture: NDArray[np.uint8], left: int) -> None:
        large = enlarge(picture[None], _SIDE)[0]
        self._screen.blit(self._pygame.surfarray.make_surface(large.swapaxes(0, 1)), (left, _MARGIN))

    def _write(self, text: str, left: int, top: int, colour: tuple[int, int, int], font: Any = None) -> None:
        self._screen.blit((font or self._font).render(text, True, colour), (left, top))


def _open_display(pygame: Any, name: str) -> None:
    """Open the display, or say that there is none: SDL would play on where nobody sees it."""
    chosen = os.environ.get("SDL_VIDEODRIVER")
    screens = not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    trouble: Exception | None = None
    if chosen or screens:
        try:
            pygame.display.init()
            if chosen or pygame.display.get_driver() not in ("dummy", "offscreen"):
                return
        except pygame.error as error:
            trouble = error
    said = f" ({trouble})" if trouble else ""
    raise ConfigurationError(
        f"there is no display here for a window{said}. Run `dreamenv serve {name}` and open its page in a browser, or "
        "set SDL_VIDEODRIVER=dummy to play unseen"
    ) from trouble


def _bars(values: NDArray[Any]) -> NDArray[np.uint8]:
    return draw_bars(values, _SIDE // 2)
