"""Hyperparameters of the value-equivalent recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamenv.errors import ConfigurationError
from dreamenv.memory.value_equivalent.model import ValueEquivalent
from dreamenv.planners.mcts import MCTS
from dreamenv.training.fit import FitOptions, check_batch_size
from dreamenv.training.recipes.base import check_options
from dreamenv.training.unrolls import check_oldest_returns


@dataclass(frozen=True)
class EncoderOptions:
    """Sizes of V: channels of the first convolution for pictures, units of the hidden layers for vectors."""

    depth: int = 16
    width: int = 128

    def __post_init__(self) -> None:
        if min(self.depth, self.width) < 1:
            raise ConfigurationError(f"depth and width must be at least 1, got {self.depth} and {self.width}")


@dataclass(frozen=True)
class NetworkOptions:
    """Keyword arguments of `ValueEquivalent`."""

    hidden_size: int = 64
    width: int = 128
    support: int = 40
    termination: str = "sample"
    termination_weight: float = 1.0

    def __post_init__(self) -> None:
        check_options(ValueEquivalent, self)


@dataclass(frozen=True)
class SearchOptions:
    """The searches whose policies are learned.

    Attributes:
        simulations: Of each; by Gumbel's root selection without noise.
        depth: Most actions from the root.
        discount: γ per action, of searches and returns.
    """

    simulations: int = 8
    depth: int = 8
    discount: float = 0.997

    def planner(self) -> MCTS:
        """The search."""
        return MCTS(
            simulations=self.simulations,
            horizon=self.depth,
            rollout=0,
            particles=1,
            discount=self.discount,
            gumbel=True,
            gumbel_noise=0.0,
        )

    def __post_init__(self) -> None:
        self.planner()  # refuses what is out of range


@dataclass(frozen=True)
class TargetOptions:
    """What is learned from a moment.

    Attributes:
        unroll: Dreamed steps behind each real observation (K).
        returns: Real rewards of a return, behind which a value follows (n).
        oldest_returns: n of the oldest experience, which rises to `returns` with the newest (`Unrolls`); None: no less.
        rate: How far the slow copy, which gives values and searches, moves at each step.
        value: Weight of the value's loss next to those of reward, end and policy.
        consistency: Weight of the distance of dreamed states from what is then seen (`Consistency`); 0: none.
    """

    unroll: int = 5
    returns: int = 10
    oldest_returns: int | None = None
    rate: float = 0.01
    value: float = 0.25
    consistency: float = 0.0

    def __post_init__(self) -> None:
        if min(self.unroll, self.returns) < 1 or not 0 < self.rate <= 1 or min(self.value, self.consistency) < 0:
            raise ConfigurationError(
                "need unroll and returns of at least 1, rate in (0, 1], value and consistency of at least 0; got "
                f"{self.unroll}, {self.returns}, {self.rate}, {self.value}, {self.consistency}"
            )
        check_oldest_returns(self.oldest_returns, self.returns)


@dataclass(frozen=True)
class UnrolledFitOptions:
    """How the whole is fitted: `batch_size` moments a step; what is not told here is as for `fit`.

    Attributes:
        average: How far a running mean of the weights moves at each step (Polyak & Juditsky 1992). The mean plays and
            is kept, since single steps make a model better and worse at random, and nothing is learned from it; None:
            the weights themselves.
    """

    steps: int = 5000
    batch_size: int = 64
    learning_rate: float = 1e-3
    clip: float = 5.0
    validate_every: int = 250
    average: float | None = None

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if self.average is not None and not 0 < self.average <= 1:
            raise ConfigurationError(f"average must be in (0, 1], got {self.average}")
        self.optimiser()  # refuses what is out of range

    def optimiser(self) -> FitOptions:
        """The part of it that `fit` takes."""
        return FitOptions(self.steps, self.learning_rate, self.clip, self.validate_every, None, "float32")


@dataclass(frozen=True)
class ValueEquivalentOptions:
    """Hyperparameters of `ValueEquivalentRecipe`.

    Attributes:
        encoder: Sizes of V.
        memory: Sizes of M.
        search: Searches whose policies are learned.
        targets: What is learned from a moment.
        fit: How it is fitted.
        refit_steps: Optimiser steps of a later fit, which starts from the model before.
    """

    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    memory: NetworkOptions = field(default_factory=NetworkOptions)
    search: SearchOptions = field(default_factory=SearchOptions)
    targets: TargetOptions = field(default_factory=TargetOptions)
    fit: UnrolledFitOptions = field(default_factory=UnrolledFitOptions)
    refit_steps: int = 2000

    def __post_init__(self) -> None:
        if self.refit_steps < 1:
            raise ConfigurationError(f"refit_steps must be at least 1, got {self.refit_steps}")
        if self.targets.consistency > 0:
            check_batch_size(self.fit.batch_size, least=2)  # its rows are normalised by each other
