from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dreamenv.agents import CMAES, OpenAIES, Optimiser, make_optimiser
from dreamenv.agents.optimisers import centred_ranks
from dreamenv.errors import ConfigurationError, NonFiniteError

GOAL = np.linspace(-1, 1, 12)
EACH = pytest.mark.parametrize(
    ("name", "options"),
    [("cma", {"diagonal": True}), ("cma", {"diagonal": False}), ("openai", {"learning_rate": 0.05, "weight_decay": 0})],
)


def fitness_of(candidates: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return -np.square(candidates - GOAL).sum(axis=1)


def search(optimiser: Optimiser, generations: int) -> Optimiser:
    for _ in range(generations):
        optimiser.tell(fitness_of(optimiser.ask()))
    return optimiser


@EACH
def test_climbs_to_the_known_optimum(name: str, options: dict[str, Any]) -> None:
    optimiser = make_optimiser(name, np.zeros(12), population=20, sigma=0.2, seed=0, **options)
    search(optimiser, 150)
    assert np.abs(optimiser.mean - GOAL).max() < 0.05


@EACH
def test_replaying_the_fitness_rebuilds_it_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    def make(seed: int) -> Optimiser:
        return make_optimiser(name, np.zeros(12), population=8, sigma=0.2, seed=seed, **options)

    first, history = make(3), []
    for _ in range(10):
        history.append(fitness_of(first.ask()))
        first.tell(history[-1])
    rebuilt = make(3)
    for fitness in history:
        rebuilt.ask()
        rebuilt.tell(fitness)
    np.testing.assert_array_equal(rebuilt.mean, first.mean)
    np.testing.assert_array_equal(rebuilt.ask(), first.ask())
    assert not np.array_equal(make(4).ask(), make(3).ask())


@EACH
def test_numpys_global_generator_is_left_alone(name: str, options: dict[str, Any]) -> None:
    before = np.random.get_state()  # noqa: NPY002
    search(make_optimiser(name, np.zeros(12), population=8, sigma=0.2, seed=0, **options), 30)
    after = np.random.get_state()  # noqa: NPY002
    assert before[2] == after[2]
    np.testing.assert_array_equal(before[1], after[1])


def test_antithetic_pairs_mirror_each_other() -> None:
    optimiser = OpenAIES(GOAL, population=6, sigma=0.3)
    candidates = optimiser.ask()
    np.testing.assert_allclose(candidates[:3] + candidates[3:], 2 * np.broadcast_to(GOAL, (3, 12)), atol=1e-12)


def test_first_step_of_the_evolution_strategy() -> None:
    # Adam's first step is the learning rate in each coordinate, in the direction of the ranked noise
    optimiser = OpenAIES(np.zeros(3), population=4, sigma=0.5, learning_rate=0.1, weight_decay=0, seed=1)
    candidates = optimiser.ask()
    optimiser.tell(np.array([4.0, 3.0, 2.0, 1.0]))
    direction = np.array([0.5, 1 / 6, -1 / 6, -0.5]) @ candidates
    np.testing.assert_allclose(optimiser.mean, 0.1 * np.sign(direction), rtol=1e-4)


def test_weight_decay_pulls_to_zero_when_fitness_says_nothing() -> None:
    optimiser = OpenAIES(np.ones(3), population=4, weight_decay=0.1, learning_rate=0.1)
    optimiser.ask()
    optimiser.tell(np.zeros(4))
    np.testing.assert_allclose(optimiser.mean, 0.9, rtol=1e-4)


def test_centred_ranks_share_ties() -> None:
    np.testing.assert_allclose(centred_ranks(np.array([10.0, -3.0, 5.0])), [0.5, -0.5, 0.0])
    np.testing.assert_allclose(centred_ranks(np.array([1.0, 2.0, 2.0, 9.0])), [-0.5, 0, 0, 0.5])
    np.testing.assert_allclose(centred_ranks(np.zeros(5)), 0)


def test_large_searches_are_diagonal_by_default() -> None:
    assert CMAES(np.zeros(501), population=4)._strategy.opts["CMA_diagonal"]
    assert not CMAES(np.zeros(500), population=4)._strategy.opts["CMA_diagonal"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cmaes", {}, "Did you mean cma"),
        ("cma", {"population": 3}, "at least 4"),
        ("cma", {"sigma": 0.0}, "sigma"),
        ("cma", {"learning_rate": 0.1}, "learning_rate"),
        ("openai", {"population": 7}, "even population"),
        ("openai", {"learning_rate": -1.0}, "learning_rate"),
        ("openai", {"sigma": float("nan")}, "sigma"),
    ],
)
def test_bad_settings(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_optimiser(name, np.zeros(3), **({"population": 8, "sigma": 0.1, "seed": 0} | settings))


@pytest.mark.parametrize("name", ["cma", "openai"])
def test_bad_fitness(name: str) -> None:
    optimiser = make_optimiser(name, np.zeros(3), population=4, sigma=0.1, seed=0)
    with pytest.raises(ConfigurationError, match="needs an ask"):
        optimiser.tell(np.zeros(4))
    optimiser.ask()
    with pytest.raises(ConfigurationError, match=r"shape \(3,\), expected \(4,\)"):
        optimiser.tell(np.zeros(3))
    with pytest.raises(NonFiniteError, match="candidate 2"):
        optimiser.tell(np.array([1, 2, np.nan, 3]))
