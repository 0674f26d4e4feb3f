"""One player of the page, without a socket."""

from __future__ import annotations

import base64
import dataclasses
import gc
import io
import weakref
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamenv.serve.limits import Places
from dreamenv.serve.messages import Message, read_message
from dreamenv.serve.pictures import Kind, numbers_message, picture_message
from dreamenv.serve.place import place_of, state_at
from dreamenv.serve.session import _OBEYED_BY, FRAMES_PER_SECOND, Session
from tests.fakes import CountingMemory
from tests.play.openings import DressedMemory, known_opening, small_opening

TICK = 1 / FRAMES_PER_SECOND


class Player:
    """A session and what it sent last, by kind."""

    def __init__(self, opening: Any, real_places: Places | None = None) -> None:
        self.session = Session(opening, seed=0, real_places=real_places or Places(0))
        self.sent: list[Any] = []

    def __call__(self, *messages: str, ticks: int = 1) -> dict[str, Any]:
        """Send messages, let ticks pass; the last status."""
        self.sent = self.session.turn([read_message(message) for message in messages], TICK)
        for _ in range(ticks - 1):
            self.sent = self.session.turn([], TICK) or self.sent
        return next((item for item in self.sent if isinstance(item, dict) and item["type"] == "status"), {})

    def errors(self) -> list[str]:
        return [item["code"] for item in self.sent if isinstance(item, dict) and item["type"] == "error"]

    def kinds(self) -> list[int]:
        return [item[0] for item in self.sent if isinstance(item, bytes)]

    def picture(self, kind: Kind) -> np.ndarray:
        content = next(item for item in self.sent if isinstance(item, bytes) and item[0] == kind)
        return np.asarray(Image.open(io.BytesIO(content[1:])).convert("RGB"))


def test_the_agent_plays_first_and_a_driving_key_hands_over() -> None:
    player = Player(known_opening())
    assert player(ticks=4)["wheel"] == "agent"
    assert player('{"type": "keys", "keys": ["UP"]}')["wheel"] == "agent", "it does nothing here"
    assert player('{"type": "keys", "keys": ["RIGHT"]}')["wheel"] == "human"
    fan = Player(known_opening())
    fan('{"type": "view", "view": "fan"}')
    status = fan('{"type": "keys", "keys": ["LEFT"]}', ticks=4)
    assert (status["wheel"], status["fan"]["returns"]) == ("human", [3.0] * 9), "the human's action in all futures"


def test_a_session_that_has_ended_is_freed_at_once() -> None:
    player = Player(small_opening())
    player('{"type": "view", "view": "fan"}', ticks=5)
    gc.collect()
    gc.disable()
    try:
        gone = weakref.ref(player.session), weakref.ref(player.session._game)
        player.session.close()
        del player
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_a_moment_survives_a_link() -> None:
    sender, receiver = Player(small_opening()), Player(small_opening())
    sender('{"type": "begin", "seed": 11}', ticks=9)
    sender('{"type": "pause", "paused": true}', '{"type": "share"}')
    (place,) = (item for item in sender.sent if isinstance(item, dict) and item["type"] == "place")
    assert place["seed"] == 11
    status = receiver(f'{{"type": "begin", "seed": {place["seed"]}, "moment": "{place["moment"]}"}}')
    assert (status["step"], receiver.errors()) == (0, [])
    model = sender.session._opening.model
    sent, received = (player.session._game.state for player in (sender, receiver))
    for before, after in zip(sent, received, strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-3)
    assert place_of(state_at(model, place["moment"])) == place["moment"]
    nothing = base64.urlsafe_b64encode(np.full(model.observation_space("state").shape, np.nan, "<f2").tobytes())
    for bad in ("AAAA", "!", "A", nothing.decode().rstrip("=")):
        receiver(f'{{"type": "begin", "seed": 1, "moment": "{bad}"}}')
        assert receiver.errors() == ["ConfigurationError"], bad


def test_the_last_seconds_are_saved_as_a_gif() -> None:
    player = Player(known_opening())
    player.session.turn([read_message('{"type": "clip"}')], 0.0)
    player(ticks=60)
    player('{"type": "clip"}')
    (content,) = (item[1:] for item in player.sent if isinstance(item, bytes) and item[0] == Kind.CLIP)
    gif = Image.open(io.BytesIO(content))
    assert (gif.format, gif.width) == ("GIF", 192)
    assert 18 <= gif.n_frames <= 32, "ten pictures a second of two seconds, and the last one for a second"
    fresh = Player(known_opening())
    fresh.session._view = "latents"
    fresh('{"type": "clip"}')
    assert fresh.errors() == ["ConfigurationError"]


def test_pictures_come_through_without_loss() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    message = picture_message(Kind.REAL, picture)
    assert message[0] == Kind.REAL
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(message[1:]))), picture)
    flat = np.full((192, 192, 3), 77, np.uint8)
    lossy = Image.open(io.BytesIO(picture_message(Kind.FAN, flat, lossless=False)[1:]))
    assert np.abs(np.asarray(lossy).astype(int) - 77).max() <= 3
    numbers = np.array([[1.5, -2.0]], np.float32)
    np.testing.assert_array_equal(np.frombuffer(numbers_message(Kind.MIXTURE, numbers), "<f4", offset=1), [1.5, -2.0])


def test_every_kind_of_message_is_obeyed() -> None:
    assert _OBEYED_BY.keys() == set(Message.__args__)


def test_hello_says_what_the_page_needs() -> None:
    hello = Player(known_opening()).session.hello()
    assert hello["keys"] == {"LEFT": "left", "RIGHT": "right"}
    assert (hello["latent_size"], hello["futures"], hello["rate"]) == (3, 9, 10)
    assert len(hello["slider_limits"]) == 3
    assert all(low < high for low, high in hello["slider_limits"])
    assert hello["real_allowed"] is False
    assert sorted(hello["latent_order"]) == [0, 1, 2]
    assert hello["yardsticks"] == {}
    scored = dataclasses.replace(known_opening(), yardsticks={"agent": 807.0})
    assert Player(scored).session.hello()["yardsticks"] == {"agent": 807.0}


def test_a_drive_sends_figures_and_pictures() -> None:
    player = Player(known_opening())
    status = player('{"type": "keys", "keys": ["RIGHT"]}')
    assert (status["world"], status["wheel"], status["view"], status["step"]) == ("dream", "human", "drive", 0)
    assert player.kinds() == [Kind.DREAM]
    status = player(ticks=30)
    assert status["step"] == 10
    # rewards of the counting memory: the action, and the age
    assert status["return"] == 10 + sum(range(1, 11))
    assert status["predicted_reward"] == status["reward"] == 11.0
    status = player('{"type": "wheel", "wheel": "agent"}', ticks=30)
    assert status["predicted_reward"] == 22.0


def test_a_pause_sends_nothing_and_is_at_rest() -> None:
    player = Player(known_opening())
    assert player('{"type": "pause", "paused": true}')["paused"] is True
    assert player.session.turn([], TICK) == []
    assert player.session.at_rest
    status = player('{"type": "step"}')
    assert status["step"] == 1
    assert player('{"type": "temperature", "value": 1.5}')["temperature"] == 1.5
    assert player('{"type": "rate", "value": 30}')["rate"] == 30
    assert player('{"type": "reset"}')["step"] == 0
    player('{"type": "pause", "paused": false}')
    assert not player.session.at_rest


def test_the_mixture_is_sent_when_asked_for_and_there_is_one() -> None:
    player = Player(small_opening())
    player('{"type": "mixture", "shown": true}')
    assert player.kinds() == [Kind.DREAM], "nothing was drawn at the first moment"
    player('{"type": "step"}')
    assert player.kinds() == [Kind.DREAM, Kind.MIXTURE]
    (mixture,) = (item for item in player.sent if isinstance(item, bytes) and item[0] == Kind.MIXTURE)
    assert len(mixture) == 1 + 4 * 7 * 4  # three numbers of two components, and what came, of four latents
    without = Player(known_opening())
    without('{"type": "mixture", "shown": true}', '{"type": "step"}')
    assert without.kinds() == [Kind.DREAM]


def test_the_fan_shows_nine_futures_and_one_is_taken() -> None:
    player = Player(known_opening())
    player('{"type": "keys", "keys": ["RIGHT"]}', '{"type": "view", "view": "fan"}')
    assert player.kinds() == [Kind.FAN]
    assert player.picture(Kind.FAN).shape == (192, 192, 3)
    status = player(ticks=6)
    assert (status["view"], status["fan"]["step"], status["step"]) == ("fan", 2, 0)
    assert status["fan"]["returns"] == [5.0] * 9
    status = player('{"type": "keys", "keys": []}', '{"type": "wheel", "wheel": "agent"}', ticks=3)
    assert status["fan"]["returns"] == [5.0 + 2 + 3] * 9
    status = player('{"type": "take", "future": 8}')
    assert (status["view"], status["fan"]) == ("drive", None)
    status = player('{"type": "take", "future": 0}')
    assert player.errors() == ["ConfigurationError"]


def test_latents_are_changed_and_dreamed_on_from() -> None:
    player = Player(known_opening())
    for message in ('{"type": "latent", "values": [1, 2, 3]}', '{"type": "dream_on"}'):
        player(message)
        assert player.errors() == ["ConfigurationError"], "not before the view is open"
    player('{"type": "view", "view": "latents"}')
    (values,) = (item["values"] for item in player.sent if isinstance(item, dict) and item["type"] == "latent")
    before = player.picture(Kind.LATENT)
    assert player.session.turn([], TICK) == []
    assert player.session.at_rest
    figures = player('{"type": "keys", "keys": ["LEFT"]}')
    assert figures["predicted_reward"] == 3.0, "the reward that M expects next: the action, and the age"
    player(f'{{"type": "latent", "values": {[value + 9 for value in values]}}}')
    assert (player.picture(Kind.LATENT) != before).any()
    player('{"type": "latent", "values": [1]}')
    assert player.errors() == ["ConfigurationError"]
    far = Player(small_opening())
    figures = far('{"type": "view", "view": "latents"}', '{"type": "latent", "values": [1e4, -1e4, 1e4, 1e4]}')
    assert np.isfinite([figures["predicted_reward"], figures["termination_probability"]]).all()
    status = player('{"type": "dream_on"}', '{"type": "pause", "paused": true}')
    assert (status["view"], status["step"]) == ("drive", 0)
    np.testing.assert_array_equal(player.session._game.moment.latent, np.float32(values) + 9)


def test_a_memory_without_mixture_and_latents_shows_neither() -> None:
    player = Player(known_opening(DressedMemory(CountingMemory())))
    hello = player.session.hello()
    assert (hello["slider_limits"], hello["has_mixture"]) == ([], False)
    status = player('{"type": "view", "view": "latents"}')
    assert (player.errors(), status["view"]) == (["ConfigurationError"], "drive")
    assert player(ticks=4)["step"] == 1
    assert Player(small_opening()).session.hello()["has_mixture"] is True


def test_a_dream_that_breaks_is_told_and_begins_anew() -> None:
    player = Player(known_opening(CountingMemory(broken_from=2)))
    player('{"type": "step"}')
    player('{"type": "step"}')
    assert player.errors() == ["NonFiniteError"]
    fan = Player(known_opening(CountingMemory(broken_from=1)))
    fan('{"type": "view", "view": "fan"}')
    while not fan.errors():
        status = fan()
    assert (fan.errors(), status["view"]) == (["NonFiniteError"], "drive")


@pytest.mark.integration
def test_the_real_game_is_counted_and_given_back() -> None:
    places = Places(1)
    first, second = Player(small_opening(), places), Player(small_opening(), places)
    try:
        status = first('{"type": "world", "world": "real"}')
        assert (status["world"], places.taken) == ("real", 1)
        assert first.kinds() == [Kind.DREAM, Kind.REAL]
        assert (first.picture(Kind.REAL) == 100).all()
        status = second('{"type": "world", "world": "real"}')
        assert (status["world"], second.errors()) == ("dream", ["CollectionError"])
        status = first('{"type": "view", "view": "fan"}', ticks=5)
        assert status["world"] == "real"
        status = first('{"type": "take", "future": 1}')
        assert (status["world"], places.taken) == ("dream", 0)
        assert second('{"type": "world", "world": "real"}')["world"] == "real"
    finally:
        for player in (first, second):
            player.session.close()
    assert places.taken == 0
    assert first.session.turn([], TICK) == [], "nothing after the end"


def test_a_real_game_that_cannot_start_gives_its_place_back() -> None:
    places = Places(1)
    player = Player(known_opening(), places)  # its real environment takes other actions
    status = player('{"type": "world", "world": "real"}')
    assert (status["world"], player.errors(), places.taken) == ("dream", ["SpaceMismatchError"], 0)
