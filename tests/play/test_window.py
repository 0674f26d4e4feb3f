"""The window without a screen: events in, pictures, words and files out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.play.devices import BUTTONS, COMMANDS, Devices
from dreamenv.play.game import Game
from dreamenv.play.video_recorder import MOST_FRAMES, VideoRecorder
from dreamenv.play.window import PlayWindow
from tests.fakes import trained_like_world_model
from tests.play.openings import CHOICE, known_opening, open_model, small_opening

pygame: Any = pytest.importorskip("pygame")


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    yield
    pygame.quit()


def key(name: str, kind: int) -> Any:
    return pygame.event.Event(kind, key=pygame.key.key_code(name))


def pressed(*names: str) -> list[Any]:
    return [key(name, pygame.KEYDOWN) for name in names]


def test_every_command_has_its_keys(display: None) -> None:
    devices = Devices(pygame)
    for command, (_, _, names) in COMMANDS.items():
        for name in names:
            assert devices.follow(key(name, pygame.KEYDOWN)) == command
            assert devices.follow(key(name, pygame.KEYUP)) is None
    assert devices.follow(pygame.event.Event(pygame.QUIT)) == "quit"


def test_arrows_and_digits_are_held(display: None) -> None:
    devices = Devices(pygame)
    for event in pressed("left", "up", "4"):
        assert devices.follow(event) is None
    assert (devices.hands.sideways, devices.hands.forward, devices.hands.digit) == (-1.0, 1.0, 4)
    devices.follow(key("left", pygame.KEYUP))
    assert devices.hands.sideways == 0.0
    devices.follow(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    assert (devices.hands.forward, devices.hands.digit) == (0.0, None)


def test_a_gamepad_steers(display: None) -> None:
    devices = Devices(pygame)

    def axis(number: int, value: float) -> None:
        devices.follow(pygame.event.Event(pygame.JOYAXISMOTION, axis=number, value=value))

    assert (devices.hands.forward, devices.hands.back) == (0.0, 0.0), "triggers rest before they are moved"
    axis(0, -0.5)
    axis(5, 0.0)
    axis(2, 1.0)
    assert devices.hands.sideways == -0.5
    assert (devices.hands.forward, devices.hands.back) == (0.5, 1.0)
    axis(0, 0.1)
    assert devices.hands.sideways == 0.0, "a stick at rest is never quite in the middle"
    devices.follow(pygame.event.Event(pygame.JOYHATMOTION, value=(1, 1)))
    assert (devices.hands.sideways, devices.hands.forward) == (1.0, 1.0)
    for button, command in BUTTONS.items():
        assert devices.follow(pygame.event.Event(pygame.JOYBUTTONDOWN, button=button)) == command
    assert set(BUTTONS.values()) <= set(COMMANDS)


def run(game: Game, events: list[list[Any]], folder: Path, **limits: Any) -> list[str]:
    """Play with the events of each turn, then leave unless there are limits; the lines reported."""
    lines: list[str] = []
    window = PlayWindow(game, record_to=folder / "clip.gif", report=lines.append)
    turns = iter([*events, *([] if limits else [[pygame.event.Event(pygame.QUIT)]])])
    true_get: Callable[[], list[Any]] = pygame.event.get

    def get() -> list[Any]:
        true_get()  # what opening the window itself sets off
        return next(turns, [])

    try:
        pygame.event.get = get
        window.run(**limits)
    finally:
        pygame.event.get = true_get
        window.close()
    return lines


def test_keys_drive_pause_step_hand_over_and_warm(display: None, tmp_path: Path) -> None:
    game = Game(known_opening(rate=1))
    begin = game.moment.latent
    events = [
        pressed("right", "space"),
        pressed("."),
        [key("right", pygame.KEYUP), *pressed("h", ".")],
        pressed("]", "]", "[", "=", "r", "h"),
    ]
    lines = run(game, events[:3], tmp_path)
    np.testing.assert_array_equal(game.moment.latent, begin + 1 + 2)
    assert lines == ["paused", "step 1", "at the wheel: agent", "step 2"]
    lines = run(game, events[3:], tmp_path)
    assert lines == [
        "temperature 1.05",
        "temperature 1.10",
        "temperature 1.05",
        "speed 2",
        "restarted",
        "at the wheel: human",
    ]
    assert game.moment.step == 0


def test_pictures_figures_and_keys_are_on_the_screen(display: None, tmp_path: Path) -> None:
    game = Game(small_opening())
    window = PlayWindow(game, record_to=tmp_path / "clip.gif", report=lambda _: None)
    try:
        window._draw()
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        picture = game.pictures(game.moment.latent[None])[0]
        np.testing.assert_array_equal(screen[16 : 16 + 384, 16 : 16 + 384], picture.repeat(6, 0).repeat(6, 1))
        assert (screen[16:400, 416:] > 200).any(), "the keys are written beside it"
        assert (screen[430:] > 200).any(), "the figures are written below"
    finally:
        window.close()


def test_the_window_is_resizable_and_a_driving_key_takes_over(display: None, tmp_path: Path) -> None:
    game = Game(known_opening(rate=1), wheel="agent")
    press_right = pressed("right")
    window = PlayWindow(game, record_to=tmp_path / "clip.gif", report=lambda _: None)
    try:
        window._window = pygame.display.set_mode((2 * 816, 1200), pygame.RESIZABLE)
        window._draw()
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert (screen[:, :2] == (21, 21, 23)).all()
        assert (screen[60:700, 60:760] != (21, 21, 23)).any(axis=2).mean() > 0.9, "the picture is twice as large"
    finally:
        window.close()
    run(game, [press_right], tmp_path)
    assert game.wheel == "human"


def test_without_a_display_the_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dreamenv.play.window.sys.platform", "linux")
    with pytest.raises(ConfigurationError, match="no display here.*dreamenv serve DreamSmall-v0"):
        PlayWindow(Game(known_opening()), record_to=tmp_path / "clip.gif")


def test_episodes_are_counted_and_reported(display: None, tmp_path: Path) -> None:
    game = Game(known_opening(rate=60))
    lines = run(game, [], tmp_path, episodes=2, steps=2)
    # rewards of the counting memory that stands still: 1 + 2
    assert lines == ["episode 1: 2 actions, return 3.0", "episode 2: 2 actions, return 3.0"]
    lines = run(Game(known_opening(rate=60, max_episode_steps=2)), [], tmp_path, episodes=1)
    assert lines == ["episode 1: 2 actions, return 3.0, truncated"]


@pytest.mark.integration
def test_the_real_frame_stands_beside_the_decoded_one_and_both_are_recorded(display: None, tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3")
    game = Game(small_opening())
    step = pressed(".")
    events = [pressed("space", "v", "t"), step, step, pressed("v"), pressed("t"), step, pressed("t")]
    lines = run(game, events, tmp_path)
    video = tmp_path / "clip.gif"
    assert lines == [
        "paused",
        "recording",
        "in the real environment",
        "step 1",
        "step 2",
        f"recorded {video}",
        "in a race of dream and real environment",
        "step 1",
        "in the dream",
    ]
    frames = imageio.imread(video)
    # the real picture on the right: 100 and two more for each of the action's two real frames
    assert abs(int(frames[0][150, -100].mean()) - 100) < 12
    assert frames.shape[2] == 2 * 256 + 4


def test_trouble_is_shown_and_the_game_goes_on(display: None, tmp_path: Path) -> None:
    def refuse(*_: Any) -> Any:
        raise ConfigurationError("there is no real game here")

    game = Game(known_opening(rate=1), make_real=refuse)
    lines = run(game, [pressed("t"), pressed(".")], tmp_path)
    assert lines == ["there is no real game here", "step 1"]


def test_numbers_are_drawn_where_there_are_no_pictures(display: None, tmp_path: Path) -> None:
    game = Game(open_model(trained_like_world_model(action_space=CHOICE, image=False)))
    lines = run(game, [pressed("v"), pressed("."), pressed("v")], tmp_path)
    assert lines[-1] == f"recorded {tmp_path / 'clip.gif'}"


def test_recordings_do_not_overwrite_and_are_bounded(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    written = []
    for _ in range(2):
        recorder = VideoRecorder(tmp_path / "clip.gif", 10.0)
        recorder.add(picture, None, "return 0")
        written.append(recorder.write())
    assert written == [tmp_path / "clip.gif", tmp_path / "clip-2.gif"]
    recorder = VideoRecorder(tmp_path / "clip.gif", 10.0)
    assert recorder.write() is None
    for _ in range(MOST_FRAMES + 5):
        recorder.add(picture, None, "")
    assert recorder.full
    assert len(recorder._decoded) == MOST_FRAMES
