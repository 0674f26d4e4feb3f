"""Dream and real environment side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.play.controls import Hands
from dreamenv.play.game import Game
from dreamenv.play.worlds import Moment
from tests.play.openings import known_opening

RIGHT = Hands(sideways=1.0)


class SteadyReal:
    """A real world in which the latents grow by the action, as in the counting memory, and by `slip` a step."""

    def __init__(
        self, opening: Any, generator: np.random.Generator, *, slip: float = 0.0, lifetime: int = 10**6
    ) -> None:
        self._opening, self._slip, self._lifetime = opening, slip, lifetime
        self.closed = 0
        self.actions: list[int] = []

    @property
    def state(self) -> Any:
        import torch

        latent = torch.from_numpy(self.moment.latent[None])
        return self._opening.model.memory.state_type(latent, torch.zeros(1, 1), torch.zeros(1, 1))

    seen = state

    def reset(self) -> Moment:
        self.actions.clear()
        self.moment = Moment(np.full(3, 7, np.float32), np.zeros((64, 64, 3), np.uint8))
        return self.moment

    def step(self, actions: Any) -> Moment:
        self.actions.append(int(actions[0]))
        before, step = self.moment, self.moment.step + 1
        self.moment = Moment(
            before.latent + np.float32(actions[0] + self._slip),
            np.full((64, 64, 3), step, np.uint8),
            step=step,
            undiscounted_return=before.undiscounted_return + 10.0,
            ended="terminated" if step == self._lifetime else "",
        )
        return self.moment

    def close(self) -> None:
        self.closed += 1


def racing(**options: Any) -> tuple[Game, list[SteadyReal]]:
    """A game in a race, and the real worlds that were made for it."""
    made: list[SteadyReal] = []

    def make(opening: Any, generator: np.random.Generator) -> Any:
        made.append(SteadyReal(opening, generator, **options))
        return made[-1]

    game = Game(known_opening(), make_real=make)
    game.enter("race")
    return game, made


def test_both_begin_at_the_same_moment_and_keys_act_in_both() -> None:
    game, (real,) = racing()
    assert game.world == "race"
    assert game.moment.race is not None
    assert (game.moment.race.drift, game.moment.race.real_return) == (0.0, 0.0)
    np.testing.assert_array_equal(game.moment.latent, 7.0)
    game.hands = RIGHT
    for _ in range(3):
        game.step()
    moment = game.moment
    assert real.actions == [1, 1, 1]
    np.testing.assert_array_equal(moment.latent, 10.0)
    assert (moment.step, moment.race.real_return, moment.race.drift) == (3, 30.0, 0.0)
    assert moment.undiscounted_return == 3 + sum(range(1, 4)), "the rewards of the counting memory"
    assert moment.frame is not None
    assert moment.frame[0, 0, 0] == 3


def test_the_drift_grows_with_what_the_dream_does_not_know_and_is_gone_after_catching_up() -> None:
    game, (real,) = racing(slip=0.5)
    drifts = []
    for _ in range(4):
        game.step()
        drifts.append(game.moment.race.drift)
    np.testing.assert_allclose(np.diff(drifts), drifts[0], rtol=1e-5)
    assert drifts[0] > 0
    game.catch_up()
    np.testing.assert_array_equal(game.moment.latent, real.moment.latent)
    assert (game.moment.step, game.moment.race.drift, game.moment.race.real_return) == (0, 0.0, 0.0)
    assert real.moment.step == 4, "the real episode goes on"
    game.step()
    assert (game.moment.race.drift, game.moment.race.real_return) == (pytest.approx(drifts[0]), 10.0)


def test_the_agent_acts_in_each_by_what_it_sees_there() -> None:
    game, (real,) = racing()
    seen: list[np.ndarray] = []
    agent = game.driver._agent
    predict = agent.predict

    def watched(observation: Any, *rest: Any) -> Any:
        seen.append(observation.copy())
        return predict(observation, *rest)

    agent.predict = watched  # type: ignore[method-assign]
    game.wheel = "agent"
    real.moment = Moment(np.full(3, 100, np.float32), real.moment.frame)
    game.step()
    assert seen[0][:, 0].tolist() == [7.0, 100.0]
    assert real.actions == [2]


def test_one_that_has_ended_waits_for_the_other() -> None:
    game, (real,) = racing(lifetime=2)
    for _ in range(4):
        game.step()
    standing = game.moment.race
    assert (standing.real_ended, standing.dream_ended, game.moment.ended) == ("terminated", "", "")
    assert (len(real.actions), game.moment.step) == (2, 4)
    for _ in range(60):
        if game.moment.ended:
            break
        game.step()
    assert (game.moment.step, game.moment.race.dream_ended) == (50, "truncated")
    game.step()
    assert (game.moment.step, game.moment.ended, real.moment.step) == (0, "", 0), "a new race has begun"


def test_from_world_to_world_the_real_episode_goes_on() -> None:
    game, made = racing()
    game.step()
    game.enter("real")
    assert (game.moment.frame is not None, game.moment.race) == (True, None)
    game.step()
    game.enter("race")
    assert (game.moment.step, made[0].moment.step) == (0, 2)
    game.enter("dream")
    np.testing.assert_array_equal(game.moment.latent, made[0].moment.latent)
    assert (len(made), made[0].closed, game.moment.race) == (1, 1, None)
    with pytest.raises(ConfigurationError, match="no race"):
        game.catch_up()


def test_the_start_margin_is_passed_first() -> None:
    import dataclasses

    opening = known_opening()
    opening.model.real = dataclasses.replace(opening.model.real, start_margin=6)  # of two frames an action
    made: list[SteadyReal] = []

    def make(*arguments: Any) -> Any:
        made.append(SteadyReal(*arguments))
        return made[-1]

    game = Game(opening, make_real=make)
    game.enter("race")
    assert made[0].actions == [0, 0, 0]
    assert game.moment.race is not None
    assert (game.moment.step, game.moment.race.real_return) == (0, 0.0)
