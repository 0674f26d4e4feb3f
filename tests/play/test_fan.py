"""Nine futures of one moment."""

from __future__ import annotations

import numpy as np
import torch

from dreamenv.bundle import StartStates
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.play.controls import Hands
from dreamenv.play.fan import FUTURES
from dreamenv.play.game import Game
from dreamenv.play.mixture import start_latents
from tests.fakes import CountingMemory, NoisyMemory, draw_weights, fake_world_model
from tests.play.openings import CHOICE, DressedMemory, known_opening, open_model, small_opening


def test_futures_begin_at_the_moment_and_part() -> None:
    game = Game(small_opening(), seed=2)
    game.step()
    fan = game.fan()
    np.testing.assert_array_equal(fan.latents, np.repeat(game.moment.latent[None], FUTURES, axis=0))
    fan.advance()
    assert len(np.unique(fan.latents, axis=0)) == FUTURES
    again = game.fan()
    again.advance()
    assert not np.array_equal(again.latents, fan.latents), "another fan draws other futures"
    assert game.moment.step == 1, "the moment itself stays"


def test_everyone_is_driven_and_returns_add_up() -> None:
    game = Game(known_opening(rate=1))
    game.driver.hands = Hands(sideways=1.0)
    fan = game.fan()
    fan.advance()
    fan.driver.hand_over("agent")
    fan.advance()
    np.testing.assert_array_equal(fan.latents, np.repeat(game.moment.latent[None] + 3, FUTURES, axis=0))
    np.testing.assert_array_equal(fan.returns, 2.0 + 4.0)


def test_ended_futures_keep_their_last_picture_until_all_begin_anew() -> None:
    game = Game(known_opening(NoisyMemory(death=0.5), rate=25), seed=1)
    fan = game.fan()
    ended_once = False
    for _ in range(40):
        alive, latents, returns = fan.alive.copy(), fan.latents.copy(), fan.returns.copy()
        fan.advance()
        if fan.step == 0:
            assert fan.alive.all()
            assert (fan.returns == 0).all()
            break
        np.testing.assert_array_equal(fan.latents[~alive], latents[~alive])
        np.testing.assert_array_equal(fan.returns[~alive], returns[~alive])
        ended_once |= bool((~alive).any())
    assert ended_once


def test_futures_begin_anew_at_the_horizon() -> None:
    game = Game(known_opening(CountingMemory(), rate=1))
    fan = game.fan()
    steps = []
    for _ in range(6):
        fan.advance()
        steps.append(fan.step)
    assert steps == [1, 2, 3, 4, 0, 1]


def test_a_future_is_taken() -> None:
    game = Game(small_opening(), seed=2)
    fan = game.fan()
    for _ in range(3):
        fan.advance()
    game.dream_on(fan.state(4))
    np.testing.assert_array_equal(game.moment.latent, fan.latents[4])
    game.step()
    assert game.moment.step == 1


def test_fans_heed_temperature() -> None:
    def spread(temperature: float) -> float:
        fan = Game(small_opening(), seed=2).fan()
        fan.temperature = temperature
        fan.advance()
        return float(fan.latents.std(axis=0).mean())

    assert spread(3.0) > 3 * spread(0.05)


def test_each_future_of_an_ensemble_has_a_member_of_its_own() -> None:
    memory = ProbabilisticEnsemble(3, CHOICE, members=6, elites=6, hidden_size=8, layers=1, propagation="episode")
    draw_weights(memory, torch.Generator().manual_seed(1))
    model = fake_world_model(memory.eval(), action_space=CHOICE, image=True, replay=False)
    game = Game(open_model(model), seed=3)
    fan = game.fan()
    members = {int(fan.state(number).member) for number in range(FUTURES)}
    assert len(members) > 2, "all futures were dreamed by the member of the moment"
    np.testing.assert_array_equal(fan.latents, np.repeat(game.moment.latent[None], FUTURES, axis=0))


def test_the_mixture_is_the_one_that_was_drawn_from() -> None:
    game = Game(small_opening(), seed=5)
    assert game.has_mixture
    assert game.mixture() is None, "nothing was drawn at the first moment"
    model, begin = game.opening.model, game.state
    model.memory.latent_std.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]))
    game.step()
    mixture = game.mixture()
    assert mixture is not None
    action = torch.from_numpy(np.zeros(1, np.int64))
    latents = torch.stack([begin.latent, torch.zeros(1, 4)], dim=1)
    heads = model.memory.teacher_force(latents, action[None])
    # M's own units have the mean 0 here; the page's have that of the start states
    middle = (model.starts.replay["latent"].mean(0) / model.memory.latent_std).numpy()
    np.testing.assert_allclose(mixture.weights, heads.log_mixture[0, 0].exp().detach(), atol=1e-5)
    np.testing.assert_allclose(mixture.means + middle, heads.mean[0, 0].detach(), atol=1e-5)
    np.testing.assert_allclose(mixture.stds, heads.log_std[0, 0].exp().detach(), atol=1e-5)
    shown = mixture.drawn + middle
    np.testing.assert_allclose(shown * model.memory.latent_std.numpy(), game.moment.latent, atol=1e-5)
    game.temperature = 2.0
    hot = game.mixture()
    assert hot is not None
    np.testing.assert_allclose(hot.stds, mixture.stds * 2**0.5, rtol=1e-5)
    assert (hot.weights.max(axis=0) < mixture.weights.max(axis=0)).all()
    assert mixture.to_array().shape == (7, 4)


def test_a_memory_without_mixtures_has_none() -> None:
    game = Game(known_opening())
    game.step()
    assert not game.has_mixture
    assert game.mixture() is None


def test_latents_of_start_states_are_those_of_the_memory() -> None:
    """Whatever the fields of its states are called."""
    memory = DressedMemory(CountingMemory())
    model = fake_world_model(memory, action_space=CHOICE, replay=False)
    np.testing.assert_array_equal(start_latents(model), model.starts.first)
    replay = {"inner": -model.starts.first[:3], "age": torch.zeros(3, 1), "drawn": torch.zeros(3, 1)}
    model.starts = StartStates(model.starts.first, replay)
    np.testing.assert_array_equal(start_latents(model), -model.starts.first[:3])
