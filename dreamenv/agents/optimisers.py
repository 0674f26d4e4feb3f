"""Black-box optimisers behind one ask/tell interface. Larger fitness is better.

Both are deterministic functions of their settings, their seed and the fitness they were told, so a run resumes by
replaying its fitness history: nothing of the optimiser's inside is ever stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, NonFiniteError, did_you_mean, missing_extra

Array = NDArray[np.float64]
_DIAGONAL_ABOVE = 500


class CandidatePart(Protocol):
    """Some candidates of a generation, in a form that is small where it is sent to other processes."""

    def weights(self) -> Array:
        """`[n, N]`."""


@dataclass(frozen=True)
class GivenCandidates:
    """Candidates as they are, in the precision in which they act.

    Attributes:
        candidates: `[n, N]`.
    """

    candidates: NDArray[np.float32]

    def weights(self) -> Array:
        """`[n, N]`."""
        return self.candidates.astype(np.float64)


@dataclass(frozen=True)
class MirroredCandidates:
    """Candidates by the seeds of their noise, as Salimans et al. 2017 (arXiv 1703.03864, section 2.1) send them.

    Attributes:
        mean: `[N]`, around which they lie.
        sigma: Standard deviation of the noise.
        seed, generation: From which the noise follows, for each pair of candidates by itself.
        population: P; candidate i and candidate i + P/2 mirror each other.
        first, last: Candidates `first` to `last - 1`.
    """

    mean: Array
    sigma: float
    seed: int
    generation: int
    population: int
    first: int
    last: int

    def noise(self) -> Array:
        """`[n, N]`, standard normal."""
        half = self.population // 2
        size = self.mean.size
        rows = [pair_noise(self.seed, self.generation, row % half, size) for row in range(self.first, self.last)]
        signs = np.where(np.arange(self.first, self.last) < half, 1.0, -1.0)
        return np.stack(rows) * signs[:, None]

    def weights(self) -> Array:
        """`[n, N]`."""
        return self.mean + self.sigma * self.noise()


def pair_noise(seed: int, generation: int, pair: int, size: int) -> Array:
    """`[size]` standard normal numbers, which are the same wherever they are drawn.

    The counter of Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") begins at the pair and the
    generation, so that no two pairs share a number.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, pair, generation, 0])).standard_normal(size)


class Optimiser(Protocol):
    """N parameters, P candidates a generation."""

    @property
    def mean(self) -> Array:
        """`[N]`, the current solution."""

    @property
    def step_size(self) -> float:
        """Typical standard deviation of a candidate's parameters around the mean."""

    def ask(self) -> Array:
        """`[P, N]` candidates."""

    def part(self, first: int, last: int) -> CandidatePart:
        """Candidates `first` to `last - 1` of the last `ask`, for another process."""

    def tell(self, fitness: Array) -> None:
        """`[P]` fitness of the candidates of the last `ask`, in their order."""


class CMAES:
    """CMA-ES (Hansen 2016, "The CMA Evolution Strategy: A Tutorial") through the package `cma`.

    With `diagonal` (the default above 500 parameters) the covariance is a diagonal, separable CMA-ES (Ros and Hansen
    2008): at 867 parameters a generation costs 6 ms instead of 170. Its random numbers come from a
    generator of its own.
    """

    def __init__(
        self, initial: Array, *, population: int = 64, sigma: float = 0.1, seed: int = 0, diagonal: bool | None = None
    ) -> None:
        """
        Raises:
            ConfigurationError: A population below 4 or a sigma that is not above 0.
            MissingExtraError: `cma` is not installed.
        """
        try:
            import cma
        except ImportError as error:
            raise missing_extra("cma", "train") from error
        initial = _check_start(initial, population, sigma, least=4)
        generator = np.random.default_rng(seed)
        options = {
            "popsize": population,
            "CMA_diagonal": initial.size > _DIAGONAL_ABOVE if diagonal is None else diagonal,
            "randn": lambda *shape: generator.standard_normal(shape),
            "seed": math.nan,  # means: leave numpy's global generator alone
            "verbose": -10,  # silent, and reads no signals file
            "verb_log": 0,
            "verb_disp": 0,
        }
        self._strategy = cma.CMAEvolutionStrategy(initial, sigma, options)
        self._population = population
        self._asked: list[Array] | None = None

    @property
    def mean(self) -> Array:
        """`[N]`, the distribution's mean."""
        return np.array(self._strategy.mean, dtype=np.float64)

    @property
    def step_size(self) -> float:
        """Root mean square of the candidates' standard deviations."""
        return float(np.sqrt(np.mean(np.square(self._strategy.stds))))

    def ask(self) -> Array:
        """`[P, N]` candidates."""
        self._asked = self._strategy.ask()
        return np.stack(self._asked)

    def part(self, first: int, last: int) -> GivenCandidates:
        """Candidates `first` to `last - 1` of the last `ask`."""
        assert self._asked is not None
        return GivenCandidates(np.stack(self._asked[first:last]).astype(np.float32))

    def tell(self, fitness: Array) -> None:
        """`[P]` fitness of the candidates of the last `ask`.

        Raises:
            NonFiniteError: A fitness that is not finite.
        """
        fitness = _check_fitness(fitness, self._population, self._asked is not None)
        # cma spot-checks one coordinate drawn from numpy's global generator: leave that as it was
        bystander = np.random.get_state()  # noqa: NPY002
        try:
            self._strategy.tell(self._asked, (-fitness).tolist())
        finally:
            np.random.set_state(bystander)  # noqa: NPY002
        self._asked = None


class OpenAIES:
    """Evolution strategy of Salimans et al. 2017 (arXiv 1703.03864, algorithm 1).

    As there: antithetic pairs, centred ranks in [-1/2, 1/2] for fitness, Adam, and weight decay added to the gradient.
    The gradient is divided by P * sigma, as in algorithm 1; their code leaves sigma to Adam.
    """

    def __init__(
        self,
        initial: Array,
        *,
        population: int = 64,
        sigma: float = 0.1,
        seed: int = 0,
        learning_rate: float = 0.03,
        weight_decay: float = 0.005,
    ) -> None:
        """
        Raises:
            ConfigurationError: An odd population, or a setting out of range.
        """
        self._mean = _check_start(initial, population, sigma, least=2)
        if population % 2:
            raise ConfigurationError(f"antithetic sampling needs an even population, got {population}")
        if learning_rate <= 0 or weight_decay < 0:
            raise ConfigurationError(
                f"learning_rate must be above 0 and weight_decay at least 0, got {learning_rate} and {weight_decay}"
            )
        self._population, self._sigma = population, sigma
        self._rate, self._decay = learning_rate, weight_decay
        self._seed = seed
        self._noise: Array | None = None
        self._first = np.zeros_like(self._mean)
        self._second = np.zeros_like(self._mean)
        self._steps = 0

    @property
    def mean(self) -> Array:
        """`[N]`, the parameters that are moved."""
        return self._mean.copy()

    @property
    def step_size(self) -> float:
        """Sigma; it stays."""
        return self._sigma

    def ask(self) -> Array:
        """`[P, N]` candidates; the second half mirrors the first."""
        self._noise = self.part(0, self._population).noise()
        return self._mean + self._sigma * self._noise

    def part(self, first: int, last: int) -> MirroredCandidates:
        """Candidates `first` to `last - 1` of the last `ask`."""
        return MirroredCandidates(self._mean, self._sigma, self._seed, self._steps, self._population, first, last)

    def tell(self, fitness: Array) -> None:
        """`[P]` fitness of the candidates of the last `ask`.

        Raises:
            NonFiniteError: A fitness that is not finite.
        """
        fitness = _check_fitness(fitness, self._population, self._noise is not None)
        assert self._noise is not None
        ascent = centred_ranks(fitness) @ self._noise / (self._population * self._sigma)
        gradient = self._decay * self._mean - ascent
        self._noise = None
        self._steps += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        corrected = self._rate * math.sqrt(1 - 0.999**self._steps) / (1 - 0.9**self._steps)
        self._mean = self._mean - corrected * self._first / (np.sqrt(self._second) + 1e-8)


def centred_ranks(fitness: Array) -> Array:
    """Ranks of `fitness` `[P]` scaled to [-1/2, 1/2]; equal values share their mean rank."""
    order = np.argsort(fitness, kind="stable")
    ranks = np.empty(len(fitness))
    ranks[order] = np.arange(len(fitness))
    _, group = np.unique(fitness, return_inverse=True)
    ranks = (np.bincount(group, weights=ranks) / np.bincount(group))[group]
    return ranks / max(1, len(fitness) - 1) - 0.5


OPTIMISERS: dict[str, Any] = {"cma": CMAES, "openai": OpenAIES}


def make_optimiser(name: str, initial: Array, *, population: int, sigma: float, seed: int, **options: Any) -> Optimiser:
    """The optimiser "cma" or "openai"; `options` go to its constructor.

    Raises:
        ConfigurationError: An unknown name or option.
    """
    if name not in OPTIMISERS:
        raise ConfigurationError(f"optimiser={name!r} is not known. {did_you_mean(str(name), OPTIMISERS)}")
    try:
        optimiser: Optimiser = OPTIMISERS[name](initial, population=population, sigma=sigma, seed=seed, **options)
    except TypeError as error:
        raise ConfigurationError(f"optimiser {name!r}: {error}") from error
    return optimiser


def _check_start(initial: Array, population: int, sigma: float, *, least: int) -> Array:
    if population < least:
        raise ConfigurationError(f"population must be at least {least}, got {population}")
    if not (math.isfinite(sigma) and sigma > 0):
        raise ConfigurationError(f"sigma must be finite and above 0, got {sigma}")
    start = np.array(initial, dtype=np.float64)
    if start.ndim != 1 or not np.isfinite(start).all():
        raise ConfigurationError(f"initial must be a finite vector, got shape {start.shape}")
    return start


def _check_fitness(fitness: Array, population: int, asked: bool) -> Array:
    if not asked:
        raise ConfigurationError("tell needs an ask before it")
    fitness = np.asarray(fitness, dtype=np.float64)
    if fitness.shape != (population,):
        raise ConfigurationError(f"got fitness of shape {fitness.shape}, expected ({population},)")
    if not np.isfinite(fitness).all():
        raise NonFiniteError(f"fitness of candidate {int(np.argmin(np.isfinite(fitness)))} is not finite")
    return fitness
