"""Exploration policies: their bounds, their statistics, and what they cover."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TimeAwareObservation

from dreamenv import registry
from dreamenv.data.explore import (
    POLICIES,
    Actor,
    Autocorrelated,
    Exploration,
    Noisy,
    Sticky,
    Uniform,
    check_policy,
    default_exploration,
)
from dreamenv.errors import ConfigurationError

BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 4.0], np.float32))
WIDE = spaces.Box(-100.0, 100.0, (1,), np.float32)
DISCRETE = spaces.Discrete(4, start=2)
NOTHING = np.zeros(1)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def run(actor: Any, steps: int) -> np.ndarray:
    return np.stack([actor.act(NOTHING) for _ in range(steps)])


class Constant(Actor):
    """Always the same action, looking at the environment through glasses of its own."""

    name = "own"

    def __init__(self, action: Any) -> None:
        self._action = action

    def view(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return TimeAwareObservation(env)

    def act(self, observation: Any) -> Any:
        return self._action


@pytest.mark.parametrize("space", [BOX, DISCRETE, spaces.Box(-np.inf, np.inf, (2,), np.float32)])
def test_actions_lie_in_the_space_whatever_the_parameters(space: Any) -> None:
    for seed in range(20):
        actors: list[Any] = [Uniform(space, rng(seed))]
        if isinstance(space, spaces.Discrete):
            actors.append(Sticky(space, rng(seed)))
            actors.append(Noisy(Constant(np.int64(3)), space, rng(seed), probability=(1, 1)))
        else:
            actors.append(Autocorrelated(space, rng(seed), scale=(3.0, 3.0)))
            high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float32)
            actors.append(Noisy(Constant(high), space, rng(seed), probability=(1, 1), scale=(2, 2)))
        for actor in actors:
            for action in run(actor, 100):
                assert space.contains(action), (actor.name, action)


def test_uniform_covers_the_space_evenly() -> None:
    actions = run(Uniform(BOX, rng()), 20_000)
    np.testing.assert_allclose(actions.mean(0), [0, 2], atol=0.04)
    np.testing.assert_allclose(actions.std(0), [2 / 12**0.5, 4 / 12**0.5], rtol=0.02)
    counts = np.bincount(run(Uniform(DISCRETE, rng()), 20_000))
    np.testing.assert_allclose(counts, [0, 0, 5000, 5000, 5000, 5000], atol=250)


@pytest.mark.parametrize(("rho", "sigma"), [(0.0, 0.1), (0.9, 0.1), (0.6, 0.02)])
def test_autocorrelated_has_the_scale_and_correlation_it_says(rho: float, sigma: float) -> None:
    # the Box is so wide, and the bias so central, that nothing is clipped
    actor = Autocorrelated(WIDE, rng(1), scale=(sigma, sigma), correlation=(rho, rho), bias=[(5.0, 5.0)])
    x = run(actor, 40_000)[:, 0].astype(np.float64)
    assert np.abs(x).max() < 100
    assert x.mean() == pytest.approx(5.0, abs=100 * sigma * 0.1)
    assert x.std() == pytest.approx(100 * sigma, rel=0.06)
    for lag in (1, 3):
        assert np.corrcoef(x[:-lag], x[lag:])[0, 1] == pytest.approx(rho**lag, abs=0.03)


def test_autocorrelated_starts_in_its_stationary_distribution() -> None:
    first = [
        Autocorrelated(WIDE, rng(s), scale=(0.1, 0.1), correlation=(0.95, 0.95), bias=[(0, 0)]).act(NOTHING)[0]
        for s in range(2000)
    ]
    assert np.std(first) == pytest.approx(10.0, rel=0.06)


@pytest.mark.parametrize("stay", [0.3, 0.9])
def test_sticky_stays_as_often_as_it_says(stay: float) -> None:
    actions = run(Sticky(DISCRETE, rng(), stay=(stay, stay)), 40_000)
    # a new draw is the same action once in four
    assert np.mean(actions[1:] == actions[:-1]) == pytest.approx(stay + (1 - stay) / 4, abs=0.01)
    np.testing.assert_allclose(np.bincount(actions)[2:] / 40_000, 0.25, atol=0.03)


def test_parameters_are_drawn_once_an_episode() -> None:
    names = {make(space, rng(s)).name for s in range(8) for make, space in ((Sticky, DISCRETE), (Autocorrelated, BOX))}
    assert len(names) >= 14
    spreads = [run(Autocorrelated(WIDE, rng(s), scale=(0.01, 0.2), bias=[(0, 0)]), 300).std() for s in range(20)]
    assert max(spreads) > 4 * min(spreads)
    biases = [run(Autocorrelated(BOX, rng(s), scale=(0, 0), bias=[(-0.5, 0.5), (1, 2)]), 2) for s in range(50)]
    centres = np.array([actions[0] for actions in biases])
    assert all(np.array_equal(actions[0], actions[1]) for actions in biases)
    assert centres.min(0) == pytest.approx([-0.5, 1.0], abs=0.1)
    assert centres.max(0) == pytest.approx([0.5, 2.0], abs=0.1)


def test_the_same_generator_gives_the_same_actions() -> None:
    for make, space in ((Uniform, BOX), (Sticky, DISCRETE), (Autocorrelated, BOX)):
        one, two, other = (run(make(space, rng(seed)), 50) for seed in (5, 5, 6))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_noise_comes_as_often_as_it_says_and_in_bursts(probability: float) -> None:
    space = spaces.Discrete(1000)
    actor = Noisy(Constant(np.int64(5)), space, rng(), probability=(probability, probability), stay=0.9)
    actions = run(actor, 20_000)
    noisy = actions != 5
    assert noisy.mean() == pytest.approx(probability, abs=0.03)
    if 0 < probability < 1:
        bursts = np.count_nonzero(noisy[1:] & ~noisy[:-1])
        # a burst ends when a draw, one in ten steps, says so
        assert noisy.sum() / bursts == pytest.approx(10 / (1 - probability), rel=0.1)
    assert actor.name == f"own+noise({probability:.2f})"


def test_redraw_changes_the_manner_within_an_episode() -> None:
    def levels(redraw: float | None) -> int:
        actor = Autocorrelated(BOX, rng(3), scale=(0, 0), bias=[(-0.5, 0.5), (0, 2)], redraw=redraw)
        return len(np.unique(run(actor, 400)[:, 0]))

    assert levels(None) == 1
    assert 20 < levels(10) < 70  # 40 expected
    assert levels(1) == 400


def test_noise_on_a_box_is_added_and_autocorrelated() -> None:
    own = Constant(np.array([20.0], np.float32))
    actor = Noisy(own, WIDE, rng(2), probability=(1, 1), stay=0.8, scale=(0.05, 0.05))
    offsets = run(actor, 20_000)[100:, 0].astype(np.float64) - 20
    assert offsets.mean() == pytest.approx(0, abs=0.5)
    assert offsets.std() == pytest.approx(5, rel=0.06)
    assert np.corrcoef(offsets[:-1], offsets[1:])[0, 1] == pytest.approx(0.8, abs=0.03)
    quiet = Noisy(own, WIDE, rng(2), probability=(0, 0))
    assert (run(quiet, 50) == 20).all()


def test_actors_look_at_the_environment_as_it_is_and_noise_as_the_actor_below_it_does() -> None:
    env = gym.make("CartPole-v1")
    assert Uniform(DISCRETE, rng()).view(env) is env
    assert isinstance(Noisy(Constant(1), DISCRETE, rng()).view(env), TimeAwareObservation)


def test_defaults_fit_the_space() -> None:
    assert [e.policy for e in default_exploration(DISCRETE)] == ["sticky", "uniform"]
    assert [e.policy for e in default_exploration(BOX)] == ["autocorrelated", "uniform"]


@pytest.mark.parametrize(
    ("exploration", "message"),
    [
        (Exploration("stiky"), "Did you mean sticky?"),
        (Exploration("agent"), "needs a world model"),
        (Exploration("sticky", kwargs={"sty": [0, 1]}), "sty"),
        (Exploration("uniform", weight=0.0), "weight must be above 0"),
        (Exploration("uniform", max_steps=0), "max_steps must be at least 1"),
    ],
)
def test_an_exploration_that_cannot_be_is_refused(exploration: Exploration, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_policy(exploration, {})


def test_further_policies_are_known_by_their_factories() -> None:
    check_policy(Exploration("agent", kwargs={"speed": 1}), {"agent": lambda space, rng, *, speed: Uniform(space, rng)})
    with pytest.raises(ConfigurationError, match="Did you mean agent"):
        check_policy(Exploration("agnt"), {"agent": Uniform})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sticky(DISCRETE, rng(), stay=0.9), r"stay is 0.9, expected a range"),  # type: ignore[arg-type]
        (lambda: Sticky(DISCRETE, rng(), stay=(0.5, 1.5)), "expected 0 <= least <= most <= 1"),
        (lambda: Autocorrelated(BOX, rng(), correlation=(0.9, 0.1)), "correlation is"),
        (lambda: Autocorrelated(BOX, rng(), scale=(-1, 1)), "scale is"),
        (lambda: Autocorrelated(BOX, rng(), redraw=0.5), "redraw is 0.5"),
        (lambda: Autocorrelated(BOX, rng(), bias=[(0, 1)]), "1 bias ranges for 2 action dimensions"),
        (lambda: Autocorrelated(DISCRETE, rng()), "needs a Box action space.*try 'sticky'"),
        (lambda: Sticky(BOX, rng()), "needs a Discrete action space"),
        (lambda: Noisy(Constant(0), DISCRETE, rng(), probability=(0, 2)), "probability is"),
    ],
)
def test_parameters_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_the_car_preset_covers_gas_and_brake_together() -> None:
    """A controller exploits what the data never held: full gas on full brake was such a case."""
    section = registry.find("DreamCarRacing-v0").section
    space = spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
    weights = np.array([e.weight for e in section.explore])
    draw = rng()
    both, still, steer = 0.0, 0.0, 0.0
    for seed in range(300):
        chosen = section.explore[int(draw.choice(len(weights), p=weights / weights.sum()))]
        check_policy(Exploration(**chosen.model_dump()), {})
        actions = run(POLICIES[chosen.policy](space, rng(seed), **chosen.kwargs), 100)
        assert space.contains(actions[0])
        both += float(np.mean((actions[:, 1] > 0.3) & (actions[:, 2] > 0.3))) / 300
        still += float(np.mean((actions[:, 1] < 0.1) & (actions[:, 2] < 0.1))) / 300
        steer += float(np.mean(np.abs(actions[:, 0]) > 0.8)) / 300
    assert both > 0.05
    assert still > 0.01
    assert steer > 0.03
