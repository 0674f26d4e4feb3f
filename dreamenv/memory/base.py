"""The interface of M, behind which backends are swapped, and the noise that its samplers take."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError


class Noise(Protocol):
    """Source of a dream's random numbers. Row i of a draw belongs to dream i of the batch."""

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""


class GeneratorNoise:
    """Noise for all rows from one `torch.Generator`, drawn on the generator's device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, rows: int, columns: int) -> Tensor:
        return torch.rand(rows, columns, generator=self.generator, device=self.generator.device)

    def normal(self, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=self.generator, device=self.generator.device)


def as_noise(generator: torch.Generator | Noise) -> Noise:
    """`generator` itself when it is a `Noise`, wrapped when it is a `torch.Generator`."""
    return GeneratorNoise(generator) if isinstance(generator, torch.Generator) else generator


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


class NoiseOfRow(Protocol):
    """The `Noise` of a single row, without tensors."""

    def row(self, kind: Literal["uniform", "normal"], columns: int) -> NDArray[np.float32]:
        """`[columns]` float32, to be read only: what `Noise` of that kind and one row gives."""


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
        self, state: Any, action: Tensor, *, generator: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[Any, Prediction]:
        """A dreamed step."""


@dataclass(frozen=True)
class SequenceBatch:
    """Real sequences for teacher forcing. T actions, T+1 latents; padded steps have `mask` 0.

    Attributes:
        latents: `[B, T+1, Z]` float32, what M is given.
        targets: `[B, T, Z]` float32, what it is to predict: the next latents, or a less noisy view of them.
        actions: `[B, T, A]` float32 (Box) or `[B, T]` int64 (Discrete).
        rewards: `[B, T]` float32.
        terminated: `[B, T]` float32, 1 where the task ended at that step.
        mask: `[B, T]` float32, 1 where the step counts in the reward and termination losses.
        latent_mask: `[B, T]` float32, 1 where the step's next latent was really observed.
    """

    latents: Tensor
    targets: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    mask: Tensor
    latent_mask: Tensor

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same batch on `device`."""
        return SequenceBatch(
            self.latents.to(device),
            self.targets.to(device),
            self.actions.to(device),
            self.rewards.to(device),
            self.terminated.to(device),
            self.mask.to(device),
            self.latent_mask.to(device),
        )


class ActionEncoder(nn.Module):
    """Actions as network inputs: Box scaled to [-1, 1] where it is bounded, Discrete one-hot.

    A Discrete action may also come as `[B, n]` floats (a relaxed or straight-through one-hot), which pass unchanged
    and carry a gradient.
    """

    low: Tensor
    high: Tensor

    def __init__(self, action_space: gym.Space[Any]) -> None:
        super().__init__()
        self.discrete = isinstance(action_space, spaces.Discrete)
        if isinstance(action_space, spaces.Discrete):
            self.size = int(action_space.n)
            self.start = int(action_space.start)
            low, high = np.zeros(0, np.float32), np.zeros(0, np.float32)
        elif isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
            self.size = int(action_space.shape[0])
            self.start = 0
            bounded = np.abs(action_space.low) < 1e6
            bounded &= np.abs(action_space.high) < 1e6
            low = np.where(bounded, action_space.low, -1.0).astype(np.float32)
            high = np.where(bounded, action_space.high, 1.0).astype(np.float32)
        else:
            raise ConfigurationError(
                f"a world model takes Discrete or one-dimensional Box actions, got {action_space}. "
                "Flatten other spaces with a Gymnasium wrapper first."
            )
        self.register_buffer("low", torch.from_numpy(low), persistent=False)
        self.register_buffer("high", torch.from_numpy(high), persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """`[..., A]` or `[...]` (Discrete) to `[..., size]` float32."""
        if not self.discrete:
            return (action.float() - self.low) * (2.0 / (self.high - self.low)) - 1.0
        if action.is_floating_point():
            return action
        return nn.functional.one_hot(action.long() - self.start, self.size).float()


StateT = TypeVar("StateT", bound="tuple[Tensor, ...]")


class MemoryModel(nn.Module, ABC, Generic[StateT]):
    """M behind one interface: state in, state out, everything batched first.

    A state is a `NamedTuple` of tensors whose first axis is the batch, so that `select` and `merge` (below) can branch,
    compact and restore dreams of any backend.
    """

    latent_size: int
    feature_size: int

    @abstractmethod
    def initial(self, latent: Tensor, *, generator: torch.Generator | Noise) -> StateT:
        """The state at `latent` `[B, Z]` before any action."""

    @abstractmethod
    def observe(
        self, state: StateT, action: Tensor, latent: Tensor, *, generator: torch.Generator | Noise
    ) -> tuple[StateT, Prediction]:
        """A real step: `action` was taken in `state` and `latent` `[B, Z]` was seen next.

        The prediction is what M said of the step before it saw `latent`.
        """

    @abstractmethod
    def imagine(
        self, state: StateT, action: Tensor, *, generator: torch.Generator | Noise, temperature: float = 1.0
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


def select(state: StateT, index: Tensor) -> StateT:
    """Rows `index` (int or bool tensor) of a state."""
    return type(state)(*(part[index] for part in state))


def merge(state: StateT, index: Tensor, rows: StateT) -> StateT:
    """A copy of `state` with rows `index` replaced by `rows`."""
    parts = []
    for part, new in zip(state, rows, strict=True):
        copy = part.clone()
        copy[index] = new.to(copy.dtype)
        parts.append(copy)
    return type(state)(*parts)


def repeat(state: StateT, times: int) -> StateT:
    """Each row `times` times in a row: `[B, ...]` to `[B * times, ...]`."""
    return type(state)(*(part.repeat_interleave(times, dim=0) for part in state))


def flatten_state(state: StateT) -> Tensor:
    """A state as one vector a row, `[B, S]` float32: its fields side by side, each flattened behind the batch."""
    return torch.cat([part.reshape(len(part), math.prod(part.shape[1:])).float() for part in state], dim=1)


def unflatten_state(like: StateT, vectors: Tensor) -> StateT:
    """The inverse of `flatten_state`: `[B, S]` to a state whose fields have the shapes and types of those of `like`.

    Raises:
        ConfigurationError: Vectors of another length than that of a row of `like`.
    """
    sizes = [part[0].numel() for part in like]
    if vectors.ndim != 2 or vectors.shape[1] != sum(sizes):
        raise ConfigurationError(f"got states of shape {tuple(vectors.shape)}, expected (B, {sum(sizes)})")
    parts = vectors.split(sizes, dim=1)
    return type(like)(
        *(part.reshape(len(part), *own.shape[1:]).to(own.dtype) for part, own in zip(parts, like, strict=True))
    )
