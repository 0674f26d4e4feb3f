"""A population dreamed in parts, each by whoever is free: what makes a part goes there, and returns come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dreamenv.agents.optimisers import CandidatePart, Optimiser
from dreamenv.agents.options import PopulationOptions
from dreamenv.agents.population import score_population
from dreamenv.envs.elsewhere import PackedModel, one_thread
from dreamenv.errors import NonFiniteError
from dreamenv.noise.base import step_generator
from dreamenv.workers import Place, Workforce, open_workers
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class _Setup:
    """What every part of every generation is dreamed with."""

    model: PackedModel
    options: PopulationOptions
    shape: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class _Part:
    """Candidates `first` to `last - 1` of a generation."""

    generation: int
    first: int
    last: int
    candidates: CandidatePart = field(compare=False)

    def __str__(self) -> str:
        return f"candidates {self.first} to {self.last - 1} of generation {self.generation}"


class PopulationParts:
    """Workers that hold the model, and dream parts of one generation after the other.

    Args:
        workforce: Who dreams.
        size: Candidates of a part. Rounding depends on it, and on nothing else that is chosen here.
    """

    def __init__(self, workforce: Workforce, size: int) -> None:
        self._workforce, self._size = workforce, size

    def fitness(self, search: Optimiser, generation: int, population: int) -> NDArray[np.float64]:
        """Mean dreamed return `[P]` of each candidate that `search` has asked about last.

        Raises:
            NonFiniteError: A dreamed return is not finite.
        """
        parts = [
            _Part(generation, first, last, search.part(first, last))
            for first in range(0, population, self._size)
            for last in [min(first + self._size, population)]
        ]
        fitness = np.empty(population)
        for part, found in self._workforce.results(parts):
            fitness[part.first : part.last] = found
        return fitness


@contextmanager
def population_parts(
    model: WorldModel,
    options: PopulationOptions,
    shape: tuple[int, ...],
    *,
    seed: int,
    size: int,
    place: Place,
    report: Callable[[str], None],
) -> Iterator[PopulationParts]:
    """Workers for the parts of populations, at `place`; the model goes to each machine once.

    Args:
        model: The dream.
        options: How the population is dreamed.
        shape: Of a candidate's weights.
        seed: Of the dreams; a generation's start states and noise follow from it and from its number.
        size: Candidates of a part.
        place: Where.
        report: Receives a line whenever a worker dies.
    """
    setup = _Setup(PackedModel.of(model), options, shape, seed)
    with open_workers(_make_runner, setup, workers=place, report=report) as workforce:
        yield PopulationParts(workforce, size)


def _make_runner(setup: _Setup) -> Callable[[_Part], NDArray[np.float64]]:
    model = setup.model.unpack()

    def run(part: _Part) -> NDArray[np.float64]:
        weights = part.candidates.weights().reshape(-1, *setup.shape)
        generator = step_generator(setup.seed, part.generation)
        try:
            with one_thread():
                returns = score_population(model, weights, setup.options, generator=generator)
        except NonFiniteError as error:
            raise NonFiniteError(f"candidates {part.first} to {part.last - 1}: {error}") from error
        fitness: NDArray[np.float64] = returns.mean(dim=1).numpy()
        return fitness

    return run
