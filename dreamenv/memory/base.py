"""The interface of M, behind which backends are swapped, and the noise that its samplers take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.memory.states import StateT
from dreamenv.noise.base import Noise, NoiseOfRow


@dataclass(frozen=True)
class Prediction:
    """What M says of one imagined step.

    Attributes:
        reward: `[B]` float32 in units of the real environment, differentiable.
        termination_probability: `[B]` float32 in [0, 1], calibrated, differentiable.
        terminated: `[B]` bool, by the cut or by sampling, as the model's `termination` says.
    """

    reward: Tensor
    termination_probability: Tensor
    terminated: Tensor


class RowSteps(Protocol):
    """A backend's dreamed step of a single row without tensors; whoever uses it need not know what a row is."""

    def row_of(self, state: Any) -> Any:
        """The memory state `[1, ...]` as a row."""

    def state_of(self, row: Any) -> Any:
        """The row as a memory state `[1, ...]`; they may share memory."""

    def features_of(self, row: Any) -> NDArray[np.float32]:
        """`[F]`, what an agent sees; a copy."""

    def step_row(
        self, row: Any, action: NDArray[Any], *, noise: NoiseOfRow, temperature: float
    ) -> tuple[Any, float, float, bool]:
        """A dreamed step under an action without a batch axis: the next row, reward, chance of an end, its coming."""


class Imagine(Protocol):
    """`MemoryModel.imagine`, or what `MemoryModel.without_gradient` puts in its place."""

    def __call__(
        self, state: Any, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[Any, Prediction]:
        """A dreamed step."""


class MemoryModel(nn.Module, ABC, Generic[StateT]):
    """M behind one interface: state in, state out, everything batched first.

    A state is a `NamedTuple` of tensors whose first axis is the batch, so that `select` and `merge` (below) can branch,
    compact and restore dreams of any backend.
    """

    latent_size: int
    feature_size: int

    @abstractmethod
    def initial(self, latent: Tensor, *, noise: torch.Generator | Noise) -> StateT:
        """The state at `latent` `[B, Z]` before any action."""

    @abstractmethod
    def observe(
        self, state: StateT, action: Tensor, latent: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[StateT, Prediction]:
        """A real step: `action` was taken in `state` and `latent` `[B, Z]` was seen next.

        The prediction is what M said of the step before it saw `latent`.
        """

    @abstractmethod
    def imagine(
        self, state: StateT, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[StateT, Prediction]:
        """A dreamed step. Differentiable through state and reward (reparameterised noise)."""

    def without_gradient(self, precision: str = "float32", *, compiled: bool = False) -> Imagine:
        """`imagine` for dreams that nobody differentiates: faster where the backend has such a step, else the same.

        Follows the model: it may be fitted further, or moved, while the returned function is in use.

        Args:
            precision: Of the products, "float32" or "bfloat16".
            compiled: By `torch.compile`; the first step of each number of rows waits for it.

        Raises:
            ConfigurationError: A precision that this model cannot dream in, or a model or machine that cannot compile.
        """
        if compiled:
            raise ConfigurationError(f"compiled=True: {type(self).__name__} of these settings has no compiled step")
        if precision != "float32":
            raise ConfigurationError(f"precision={precision!r}: {type(self).__name__} dreams in float32 only")
        return self.imagine

    def dream_precision(self, precision: str, rows: int) -> str:
        """What "auto" stands for in a batch of so many dreams, for `without_gradient`; other precisions stay."""
        return "float32" if precision == "auto" else precision

    def row_steps(self) -> RowSteps | None:
        """The dreamed step of a single row, in the form in which it costs least; None where there is no such form."""
        return None

    @abstractmethod
    def features(self, state: StateT) -> Tensor:
        """`[B, F]`, what an agent sees."""

    @abstractmethod
    def latent(self, state: StateT) -> Tensor:
        """`[B, Z]`, what vision decodes."""

    @abstractmethod
    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Scalars by name; `"loss"` is the one to minimise, the others are for reading."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-ready keyword arguments that rebuild this model (spaces aside)."""

    def state_from_tensors(self, tensors: dict[str, Tensor]) -> StateT:
        """The inverse of `state._asdict()`, for start states that are read from a file."""
        return self.state_type(**tensors)

    @property
    @abstractmethod
    def state_type(self) -> type[StateT]:
        """The `NamedTuple` class of this model's states."""
