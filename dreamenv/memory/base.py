"""The interface of M, behind which memories are swapped: state in, state out, everything batched first.

Letters in shapes: B batch, E embedding, Z latent, F features, A action.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.memory.states import StateT, repeat
from dreamenv.noise.base import DreamNoise, Noise

PRECISIONS = ("float32", "bfloat16")

MemoryT = TypeVar("MemoryT", bound="MemoryModel[Any]")


@dataclass(frozen=True)
class Prediction:
    """What M predicts for one step.

    Attributes:
        reward: `[B]` float32 in units of the real environment, differentiable.
        termination_probability: `[B]` float32 in [0, 1], calibrated, differentiable.
        terminated: `[B]` bool, by the cut or by sampling, as the model's `termination` chooses.
        extras: More figures of the step by name, each `[B]`, such as an ensemble's disagreement. Environments put them
            into `info` under their names.
    """

    reward: Tensor
    termination_probability: Tensor
    terminated: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LatentMixture:
    """A distribution of the next latent: a mixture of K Gaussians, for each dimension alone or for all together.

    Attributes:
        weights: `[B, K, Z]`, of sum 1 over K; those of components for all dimensions are the same in each column.
        means, stds: `[B, K, Z]`, in units of the latent.
    """

    weights: Tensor
    means: Tensor
    stds: Tensor


class MemoryModel(nn.Module, ABC, Generic[StateT]):
    """M: predicts the next latent, the reward and the end of the task, from a state that it carries along.

    A state is a `NamedTuple` of tensors whose first axis is the batch, so that `dreamenv.memory.states` can choose,
    join and restore dreams of any memory. Every method that draws takes its noise, row by row: dream i of a batch is
    the same dream whatever its neighbours are.

    How a memory is fitted is not part of the interface; that is what a recipe is (`dreamenv.training.recipes`).

    Attributes:
        embedding_size: E, what vision encodes an observation to and `initial` and `observe` take.
        latent_size: Z, what vision decodes. For many memories it is the embedding; an RSSM decodes more.
        feature_size: F, what an agent sees.
        latent_std: `[Z]`, spread of the latents in the data: the unit in which errors of latents are given.
        differentiable: Whether `imagine` carries gradients through state, action, reward and probability of the end.
        markov: Whether the features determine the state, so that a dream can begin at any of them.
        memoryless: Whether a real observation determines the state: `observe` comes to what `initial` makes of the
            embedding, but for what is drawn. An agent that sees real observations through it needs no `observe` then.
        terminations: Ways of ending a dream that `with_termination` can choose from; none where there is no choice.
        figures: Names of the extras that a step of `observe`, and of a stepper's `advance`, has; steps of `imagine`
            need not have them.
    """

    embedding_size: int
    latent_size: int
    feature_size: int
    latent_std: Tensor
    differentiable: ClassVar[bool] = True
    markov: ClassVar[bool] = False
    memoryless: ClassVar[bool] = False
    terminations: ClassVar[tuple[str, ...]] = ()
    figures: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> StateT:
        """The state at `embedding` `[B, E]` before any action."""

    @abstractmethod
    def observe(
        self, state: StateT, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[StateT, Prediction]:
        """A real step: `action` was taken in `state` and `embedding` `[B, E]` was seen next.

        The prediction is what M predicted for the step before it saw `embedding`.
        """

    @abstractmethod
    def imagine(
        self, state: StateT, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[StateT, Prediction]:
        """A dreamed step.

        Args:
            state: Of B dreams.
            action: `[B, A]` float32 (Box) or `[B]` int64 (Discrete), as the environment takes them; a Discrete action
                may also come as `[B, n]` floats (a relaxed or straight-through one-hot).
            noise: Draws the step.
            temperature: Spread of what is drawn; 1 is M's own distribution, 0 its mode.
        """

    def branch(self, state: StateT, times: int, *, noise: torch.Generator | Noise) -> StateT:
        """Each row `times` times in a row, `[B, ...]` to `[B * times, ...]`, for dreams that part here.

        What a row drew once for its whole dream (a member of an ensemble, a dropout mask) is drawn anew for each
        branch, as PETS does at the start of each plan. Here nothing is.
        """
        return repeat(state, times)

    @abstractmethod
    def features(self, state: StateT) -> Tensor:
        """`[B, F]`, what an agent sees."""

    @abstractmethod
    def latent(self, state: StateT) -> Tensor:
        """`[B, Z]`, what vision decodes."""

    def value(self, state: StateT) -> Tensor | None:
        """`[B]`, the return to be expected from here on, where M has learned one; planners add it behind their
        plans."""
        return None

    def prior(self, state: StateT) -> Tensor | None:
        """`[B, n]`, logits of a policy over Discrete actions, where M has learned one; tree search begins with them."""
        return None

    def disagreement(self, state: StateT, action: Tensor) -> Tensor | None:
        """`[B]`, how far the members of an ensemble disagree on what follows `action`, in standard deviations of the
        change of the latent; None where there are none."""
        return None

    def embedding_of(self, seen: Tensor, kind: str) -> Tensor | None:
        """`[..., E]`, the embedding behind what an agent sees: features `[..., F]`, or with `kind` "latent" a latent
        `[..., Z]`. None where that does not hold it, so that states cannot be followed along recorded observations."""
        return None

    def predicted_latent(self, state: StateT, action: Tensor, *, temperature: float = 1.0) -> LatentMixture | None:
        """What `imagine` draws the next latent from; None where it is no mixture of Gaussians."""
        return None

    def with_latent(self, state: StateT, latent: Tensor) -> StateT | None:
        """`state` with another latent `[B, Z]`, and all else that M remembers as it is; None where a latent cannot be
        changed by itself."""
        return None

    def stepper(self, rows: int, *, precision: str = "auto", compiled: bool = False) -> Stepper[StateT]:
        """`imagine` for dreams that nobody differentiates: faster where the memory has such a step, else the same.

        Follows the model: it may be fitted further, loaded or moved while the stepper is in use. Edits through
        `Tensor.data` are the exception: PyTorch does not record them, and only the next stepper sees them.

        A stepper keeps scratch memory, so that one thread at a time may use it. Threads that share a model take a
        stepper each, and may step from the same states.

        Args:
            rows: How many dreams will be stepped at once, or about so many.
            precision: Of the products: "float32", "bfloat16", or "auto", the one that is faster for so many dreams
                here: a memory that has both measures it once (`dreamenv.memory.precision`).
            compiled: By `torch.compile`; the first step of each number of rows waits for it.

        Raises:
            ConfigurationError: A precision that this model cannot dream in, or a model or machine that cannot compile.
        """
        if compiled:
            raise ConfigurationError(f"compiled=True: {type(self).__name__} of these settings has no compiled step")
        if precision not in ("auto", *PRECISIONS):
            raise ConfigurationError(f"precision={precision!r} is not known; expected 'auto' or one of {PRECISIONS}")
        if precision == "bfloat16":
            raise ConfigurationError(f"precision={precision!r}: {type(self).__name__} dreams in float32 only")
        return PlainStepper(self)

    @property
    def termination_threshold(self) -> float:
        """The calibrated probability above which M predicts that the task ends."""
        return 0.5

    def with_termination(self: MemoryT, termination: str) -> MemoryT:
        """This memory with another of its `terminations`; the weights are shared.

        Raises:
            ConfigurationError: An unknown one, or a memory that has no choice.
        """
        if not self.terminations:
            raise ConfigurationError(
                f"termination={termination!r}: {type(self).__name__} does not let it be chosen; leave it out"
            )
        if termination not in self.terminations:
            known = did_you_mean(str(termination), self.terminations)
            raise ConfigurationError(f"termination={termination!r} is not known. {known}")
        other: Any = copy.copy(self)
        other.termination = termination
        return other

    def with_bonus(self: MemoryT, bonus: float, *, reward: float = 1.0) -> MemoryT:
        """This memory with rewards of `reward` times its own plus `bonus` times its disagreement; the weights are
        shared.

        Raises:
            ConfigurationError: A memory that does not know where it disagrees, or a weight that is not finite.
        """
        del bonus, reward
        raise ConfigurationError(
            f"{type(self).__name__} has no members that could disagree; take the recipe 'ensemble'"
        )

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-ready keyword arguments that rebuild this model (spaces aside), and its registered `"kind"`."""

    def state_from_tensors(self, tensors: dict[str, Tensor]) -> StateT:
        """The inverse of `state._asdict()`, for states that are read from a file."""
        return self.state_type(**tensors)

    @property
    @abstractmethod
    def state_type(self) -> type[StateT]:
        """The `NamedTuple` class of this model's states."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        # The first one is found at once; a list of them all would take as long as a step of a few dreams
        return next((part.device for part in chain(self.parameters(), self.buffers())), torch.device("cpu"))


class Outcome(NamedTuple):
    """What a step of N dreams brought, as arrays.

    Attributes:
        reward: `[N]` float64, in units of the real environment.
        termination_probability: `[N]` float64 in [0, 1].
        terminated: `[N]` bool.
        extras: More figures by name, each `[N]` float64.
    """

    reward: NDArray[np.float64]
    termination_probability: NDArray[np.float64]
    terminated: NDArray[np.bool_]
    extras: Mapping[str, NDArray[np.float64]] = MappingProxyType({})


class Stepper(ABC, Generic[StateT]):
    """The dreamed step of a memory where nobody differentiates; see `MemoryModel.stepper`.

    Called with tensors it is `imagine`. Environments, whose actions and results are arrays, use the other methods: they
    hold the dreams in the form in which this stepper advances them fastest and need not know what that is.

    Attributes:
        memory: The model.
        precision: "float32" or "bfloat16".
    """

    memory: MemoryModel[StateT]
    precision: str = "float32"

    @abstractmethod
    def __call__(
        self, state: StateT, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[StateT, Prediction]:
        """A dreamed step, as `MemoryModel.imagine`, without gradients."""

    @property
    def device(self) -> torch.device:
        """Where the dreams are."""
        return self.memory.device

    def enter(self, state: StateT) -> Any:
        """The state in the form in which `advance` takes it; it shares no memory that `advance` writes to."""
        return state

    def leave(self, dreams: Any) -> StateT:
        """The inverse of `enter`; both may share memory."""
        state: StateT = dreams
        return state

    def advance(
        self, dreams: Any, action: NDArray[Any], *, noise: DreamNoise, temperature: float
    ) -> tuple[Any, Outcome]:
        """A dreamed step of all dreams under actions `[N, A]` or `[N]`."""
        actions = torch.from_numpy(action).to(self.device)
        state, prediction = self(self.leave(dreams), actions, noise=noise, temperature=temperature)
        return self.enter(state), outcome_of(prediction)

    def features(self, dreams: Any) -> NDArray[np.float32]:
        """`[N, F]`, what an agent sees; a copy."""
        with torch.no_grad():
            seen = self.memory.features(self.leave(dreams)).float()
        storage = seen.untyped_storage().data_ptr()
        if any(part.untyped_storage().data_ptr() == storage for part in self.leave(dreams)):
            seen = seen.clone()
        found: NDArray[np.float32] = seen.cpu().numpy()
        return found


class PlainStepper(Stepper[StateT]):
    """`imagine` itself."""

    def __init__(self, memory: MemoryModel[StateT]) -> None:
        self.memory = memory

    @torch.no_grad()
    def __call__(
        self, state: StateT, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[StateT, Prediction]:
        return self.memory.imagine(state, action, noise=noise, temperature=temperature)


def outcome_of(prediction: Prediction) -> Outcome:
    """The prediction as arrays."""
    reward, probability, terminated = prediction.reward, prediction.termination_probability, prediction.terminated
    if reward.is_cpu and not prediction.extras and not reward.requires_grad:
        return Outcome(
            reward.numpy().astype(np.float64),
            probability.numpy().astype(np.float64),
            terminated.numpy().astype(np.bool_),
        )
    names = list(prediction.extras)
    parts = [reward, probability, terminated]
    parts += [prediction.extras[name] for name in names]
    if prediction.reward.device.type != "cpu":  # one transfer for all of them
        parts = list(torch.stack([part.float() for part in parts]).cpu())
    arrays = [part.detach().numpy() for part in parts]
    return Outcome(
        arrays[0].astype(np.float64),
        arrays[1].astype(np.float64),
        arrays[2].astype(np.bool_),
        {name: part.astype(np.float64) for name, part in zip(names, arrays[3:], strict=True)},
    )
