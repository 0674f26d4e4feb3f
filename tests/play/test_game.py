"""A player at the wheel, in a dream that is known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamenv.errors import CollectionError, ConfigurationError, NonFiniteError
from dreamenv.play.controls import Hands
from dreamenv.play.game import SECONDS_AFTER_THE_END, TEMPERATURES, Game
from dreamenv.play.step_rate import StepRate
from dreamenv.play.worlds import Moment
from tests.fakes import CountingMemory
from tests.play.openings import DressedMemory, known_opening, small_opening

RIGHT, LEFT = Hands(sideways=1.0), Hands(sideways=-1.0)


class ToyReal:
    """A real world of one number, that counts how often it was closed."""

    closed = 0

    def __init__(self, opening: Any, generator: np.random.Generator) -> None:
        self._opening, self.fails = opening, False
        self._step = 0

    @property
    def state(self) -> Any:
        return self._opening.model.memory.state_type(*_row(7.0 + self._step, self._opening))

    seen = state

    def reset(self) -> Moment:
        if self.fails:
            raise CollectionError("the game died")
        self._step = 0
        return Moment(np.full(3, 7, np.float32), np.zeros((64, 64, 3), np.uint8))

    def step(self, action: Any) -> Moment:
        if self.fails:
            raise CollectionError("the game died")
        self._step += 1
        return Moment(np.full(3, 7 + self._step, np.float32), np.zeros((64, 64, 3), np.uint8), step=self._step)

    def close(self) -> None:
        ToyReal.closed += 1


def _row(value: float, opening: Any) -> Any:
    import torch

    return torch.full((1, 3), value), torch.zeros(1, 1), torch.zeros(1, 1)


def test_the_human_drives_then_the_agent() -> None:
    game = Game(known_opening())
    game.driver.hands = RIGHT
    begin = game.moment
    game.step()
    np.testing.assert_array_equal(game.moment.latent, begin.latent + 1)
    # The reward of the counting memory is the action plus the age
    assert (game.moment.reward, game.moment.undiscounted_return, game.moment.step) == (2.0, 2.0, 1)
    game.wheel = "agent"
    game.step()
    np.testing.assert_array_equal(game.moment.latent, begin.latent + 3)
    assert game.moment.undiscounted_return == 2.0 + 4.0
    with pytest.raises(ConfigurationError, match="Known: agent, human"):
        game.wheel = "nobody"


def test_a_driving_key_takes_the_wheel_from_the_agent() -> None:
    game = Game(known_opening(), wheel="agent")
    game.hands = Hands(forward=1.0, digit=7)
    assert game.wheel == "agent", "keys that do nothing here"
    game.hands = RIGHT
    assert game.wheel == "human"
    game.wheel = "agent"
    game.hands = RIGHT
    assert game.wheel == "agent", "a key that is still held is not pressed"
    game.hands = LEFT
    assert game.wheel == "human"
    game.wheel = "agent"
    game.hands = Hands()
    assert game.wheel == "agent", "letting go takes nothing"


def test_a_key_that_is_let_go_between_two_steps_acts_once() -> None:
    game = Game(known_opening())
    begin = game.moment.latent
    game.hands = RIGHT
    game.hands = Hands()
    game.step()
    np.testing.assert_array_equal(game.moment.latent, begin + 1)
    game.step()
    np.testing.assert_array_equal(game.moment.latent, begin + 1)


def test_beginning_anew_with_a_seed_is_the_dream_of_that_seed() -> None:
    def play(game: Game) -> list[np.ndarray]:
        latents = [game.moment.latent]
        for _ in range(4):
            game.step()
            latents.append(game.moment.latent)
        return latents

    game = Game(small_opening(), seed=5)
    game.step()
    game.begin_anew(3)
    first = play(game)
    np.testing.assert_array_equal(first, play(Game(small_opening(), seed=3)))
    state = game.state
    game.begin_anew(8, state)
    second = play(game)
    other = Game(small_opening(), seed=1)
    other.begin_anew(8, state)
    np.testing.assert_array_equal(second, play(other))
    np.testing.assert_array_equal(second[0], first[-1])


def test_what_is_foreseen_is_the_next_reward_and_nothing_happens() -> None:
    game = Game(known_opening())
    game.hands = RIGHT
    before = game.moment
    assert float(game.foresee(game.state).reward[0]) == 2.0  # the action, and the age
    assert game.moment is before
    game.step()
    assert game.moment.reward == 2.0


def test_time_takes_steps_at_the_rate() -> None:
    game = Game(known_opening(rate=10))
    for _ in range(30):
        assert game.advance(1 / 30)
    assert game.moment.step == 10
    game.rate = 30.0
    for _ in range(30):
        game.advance(1 / 30)
    assert game.moment.step == 40
    # A machine that is late does not take two steps at once
    game.advance(1.0)
    assert game.moment.step == 41


@pytest.mark.parametrize("rate", [4.0, 9.0, 12.0, 29.0])
def test_late_ticks_do_not_change_the_rate(rate: float) -> None:
    game = Game(known_opening(max_episode_steps=10**6))
    game.rate = rate
    generator = np.random.default_rng(0)
    seconds = 0.0
    while seconds < 100.0:
        tick = float(generator.uniform(0.9, 1.1)) / 30
        game.advance(tick, 1 / 30)
        seconds += tick
    assert game.moment.step == pytest.approx(100 * rate, rel=0.01)


def test_the_picture_moves_from_one_latent_to_the_next() -> None:
    game = Game(known_opening(rate=10))
    game.driver.hands = LEFT
    game.step()
    before = game.moment.latent - 2
    shown = []
    for _ in range(3):
        game.advance(1 / 30, 1 / 30)
        shown.append(game.latent - before)
    np.testing.assert_allclose(shown[0], 4 / 3, atol=1e-5)
    np.testing.assert_allclose(shown[1], 2, atol=1e-5)
    # the third tick is a step: a third of the way to the next latent
    np.testing.assert_allclose(shown[2], 2 + 2 / 3, atol=1e-5)
    game.paused = True
    np.testing.assert_array_equal(game.latent, game.moment.latent)


def test_as_many_steps_as_pictures_show_the_present() -> None:
    game = Game(known_opening(rate=30))
    game.driver.hands = RIGHT
    for _ in range(5):
        game.advance(1 / 30, 1 / 30)
        np.testing.assert_allclose(game.latent, game.moment.latent, atol=1e-4)


def test_paused_time_stands_still_and_single_steps_go() -> None:
    game = Game(known_opening())
    game.paused = True
    assert not game.advance(10.0)
    assert game.moment.step == 0
    game.step()
    assert game.moment.step == 1
    assert game.steps_per_second == 0.0


@pytest.mark.parametrize(
    ("memory", "limit", "ended"), [(CountingMemory(lifetime=3), 50, "terminated"), (None, 3, "truncated")]
)
def test_an_end_is_shown_and_then_the_next_episode_begins(memory: Any, limit: int, ended: str) -> None:
    game = Game(known_opening(memory, max_episode_steps=limit))
    for _ in range(3):
        game.step()
    assert (game.moment.ended, game.moment.step) == (ended, 3)
    assert not game.advance(SECONDS_AFTER_THE_END / 2)
    assert game.moment.step == 3
    assert game.advance(SECONDS_AFTER_THE_END)
    assert (game.moment.ended, game.moment.step) == ("", 0)


def test_a_step_after_the_end_begins_anew() -> None:
    game = Game(known_opening(max_episode_steps=1))
    game.step()
    game.step()
    assert game.moment.step == 0


def test_a_dream_that_breaks_says_so_and_begins_anew() -> None:
    game = Game(known_opening(CountingMemory(broken_from=2)))
    game.step()
    with pytest.raises(NonFiniteError):
        game.step()
    assert game.moment.step == 0
    game.step()
    assert game.moment.step == 1


def test_the_same_seed_is_the_same_game() -> None:
    def play(seed: int) -> list[np.ndarray]:
        game = Game(small_opening(), seed=seed, wheel="agent")
        latents = []
        for _ in range(5):
            game.step()
            latents.append(game.moment.latent)
        return latents

    np.testing.assert_array_equal(play(3), play(3))
    assert not np.array_equal(play(3), play(4))


def test_temperature_is_live_and_bounded() -> None:
    game = Game(small_opening(), seed=1)
    game.temperature = 99.0
    assert game.temperature == TEMPERATURES[1]
    jumps = {}
    for temperature in TEMPERATURES:
        game = Game(small_opening(), seed=1)
        game.temperature = temperature
        before = game.moment.latent
        sizes = []
        for _ in range(30):
            game.step()
            sizes.append(np.abs(game.moment.latent - before).mean())
            before = game.moment.latent
        jumps[temperature] = np.mean(sizes)
    assert jumps[TEMPERATURES[1]] > 2 * jumps[TEMPERATURES[0]]


def test_to_the_real_world_and_from_its_moment_into_a_dream() -> None:
    ToyReal.closed = 0
    game = Game(known_opening(), make_real=ToyReal)
    game.enter("real")
    assert game.world == "real"
    assert game.moment.frame is not None
    game.driver.hands = RIGHT
    game.step()
    game.step()
    assert not game.advance(1e-3), "the real picture does not move between steps"
    game.enter("dream")
    assert (game.world, game.moment.step, ToyReal.closed) == ("dream", 0, 1)
    np.testing.assert_array_equal(game.moment.latent, 9.0)
    game.step()
    np.testing.assert_array_equal(game.moment.latent, 10.0)
    game.enter("dream")
    assert game.moment.step == 1, "already there"
    with pytest.raises(ConfigurationError, match="world"):
        game.enter("elsewhere")


def test_a_real_game_that_dies_leaves_the_player_in_the_dream() -> None:
    ToyReal.closed = 0
    made: list[ToyReal] = []

    def make(*arguments: Any) -> Any:
        made.append(ToyReal(*arguments))
        return made[-1]

    game = Game(known_opening(), make_real=make)
    for act in (game.step, game.reset):
        game.enter("real")
        made[-1].fails = True
        with pytest.raises(CollectionError):
            act()
        assert game.world == "dream"
        game.step()
    assert ToyReal.closed == 2

    def refuse(*_: Any) -> Any:
        world = ToyReal(*_)
        world.fails = True
        return world

    game = Game(known_opening(), make_real=refuse)
    with pytest.raises(CollectionError):
        game.enter("real")
    assert (game.world, ToyReal.closed) == ("dream", 3)
    game.close()


def test_a_changed_latent_is_dreamed_on_from() -> None:
    game = Game(known_opening())
    game.driver.hands = RIGHT
    game.step()
    game.dream_on(game.edited(np.array([5, 6, 7], np.float32)))
    game.step()
    np.testing.assert_array_equal(game.moment.latent, [6, 7, 8])
    with pytest.raises(ConfigurationError, match="expected 3"):
        game.edited(np.zeros(4, np.float32))


def test_latents_that_cannot_be_changed_by_themselves() -> None:
    game = Game(known_opening(DressedMemory(CountingMemory())))
    game.driver.hands = RIGHT
    game.step()
    assert not game.edits_latents
    with pytest.raises(ConfigurationError, match="latents of DressedMemory cannot be changed"):
        game.edited(game.moment.latent)
    assert Game(known_opening()).edits_latents


def test_pictures_are_decoded() -> None:
    game = Game(small_opening())
    pictures = game.pictures(np.stack([game.moment.latent, game.moment.latent + 1]))
    assert (pictures.shape, pictures.dtype) == ((2, 64, 64, 3), np.uint8)
    assert (pictures[0] != pictures[1]).any()


def test_step_rate_counts_the_last_two_seconds() -> None:
    now = [0.0]
    rate = StepRate(lambda: now[0])
    assert rate.value == 0.0
    for _ in range(30):
        now[0] += 0.1
        rate.count()
    assert rate.value == pytest.approx(10.0)
    now[0] += 10.0
    assert rate.value == 0.0
