"""A recipe: what turns real episodes into a vision model and a memory model."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.bundle import StartStates
from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel
from dreamenv.noise.base import seeded_weights
from dreamenv.training.fit import Scalars
from dreamenv.training.replay import Replayed
from dreamenv.training.start_states import Embed, embed_by
from dreamenv.training.tensorboard import TensorBoardRecorder
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.world_model import WorldModel

OptionsT = TypeVar("OptionsT")
Progress = Callable[[str, int, int, Scalars], None]


def _silent(stage: str, step: int, steps: int, scalars: Scalars) -> None:
    pass


@dataclass(frozen=True)
class Job(Generic[OptionsT]):
    """What a recipe is given.

    Attributes:
        options: Its hyperparameters.
        cache: The real episodes, as the world model is to see them: pictures `[64, 64, 3]` uint8 or vectors `[D]`
            float32.
        real: The real environment that they are of.
        action_space: Its action space.
        folder: Where checkpoints belong; what lies there is of an earlier call with the same options, or of another
            one, which the recipe refuses to continue.
        seed: Of initial weights and batches.
        device: Where to fit.
        begin: A world model that the fit starts from; None starts afresh. What of it is taken is the recipe's business.
        progress: Called with a stage's name, its step, its steps (0 where nothing is counted) and scalars.
        recorder: TensorBoard events of the run; None records nothing.
    """

    options: OptionsT
    cache: EpisodeCache
    real: RealEnvSpec
    action_space: gym.Space[Any]
    folder: Path
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    begin: WorldModel | None = None
    progress: Progress = _silent
    recorder: TensorBoardRecorder | None = None

    @cached_property
    def given(self) -> dict[str, str | None]:
        """What every checkpoint's settings hold: none of other episodes, or of another model to begin with, is
        continued."""
        return {"data": self.data, "begin": None if self.begin is None else self.begin.fingerprint()}

    @property
    def data(self) -> str:
        """Sixteen hexadecimal digits that change with the episodes."""
        return self.cache.fingerprint

    def world_model(self, vision: Vision, memory: MemoryModel[Any]) -> WorldModel:
        """V and M as one model without start states, in evaluation mode: for pictures while they are fitted."""
        starts = StartStates(torch.zeros(0, memory.embedding_size, device=self.device))
        return WorldModel(vision, memory, self.real, self.action_space, starts, max_episode_steps=1)

    def report(self, stage: str, step: int, steps: int, scalars: Scalars) -> None:
        """Tell how far a stage is, and record its scalars."""
        self.progress(stage, step, steps, scalars)
        if self.recorder is not None:
            self.recorder.scalars(stage, step, scalars)

    def show(self, name: str, step: int, draw: Callable[[], NDArray[np.uint8]]) -> None:
        """Record the picture `[H, W, 3]` that `draw` gives; it is not drawn where nothing is recorded."""
        if self.recorder is not None:
            self.recorder.picture(name, step, draw())


@dataclass(frozen=True)
class Fitted:
    """What a recipe gives.

    Attributes:
        vision: V.
        memory: M, which takes what V encodes and gives what V decodes.
        held_out: Figures on the held-out episodes (`data.split`), for people and for the bundle's provenance.
        embed: Embeddings of the cache's observations by row, where the recipe has them at hand; None encodes those
            that start states need.
        starts: Start states of the recipe's own; None takes moments of the real episodes (`make_start_states`).
    """

    vision: Vision
    memory: MemoryModel[Any]
    held_out: Scalars
    embed: Embed | None = None
    starts: StartStates | None = None


class ContinualFit(ABC):
    """V and M that learn on while real episodes come in, a batch of replayed experience at a time.

    Attributes:
        vision: V, being fitted.
        memory: M, being fitted.
        replayed: Real steps that an update replays.
    """

    vision: Vision
    memory: MemoryModel[Any]
    replayed: int

    @abstractmethod
    def take(self, cache: EpisodeCache) -> None:
        """Learn from these episodes from now on: those before, and new ones behind them.

        Raises:
            ConfigurationError: They hold too little, or what the recipe cannot take.
        """

    @abstractmethod
    def update(self, step: int) -> tuple[Scalars, Replayed]:
        """Update number `step`, which depends on weights, episodes and `step` alone; its losses, and what it replayed.

        Raises:
            NonFiniteError: A loss became NaN or infinite.
        """

    def embed(self, cache: EpisodeCache) -> Embed:
        """Embeddings of the observations of `cache`, the episodes that were taken last, by V as it is."""
        return embed_by(self.vision, cache, device=self.memory.device)

    @abstractmethod
    def measure(self, cache: EpisodeCache) -> Scalars:
        """Figures on episodes that it has not learned from, for people."""

    @abstractmethod
    def finish(self) -> None:
        """Set what M keeps about its data (units of latents), before it is saved; learning may go on behind it."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """All that `Recipe.continual` needs to go on to the bit on the CPU: weights and the optimiser's state."""


class Recipe(ABC, Generic[OptionsT]):
    """From real episodes to V and M: one after the other, both together, or counted; the recipe's own business.

    The pipeline, the loop and the command line know recipes by name (`register_recipe`) and options by the dataclass
    that `options_type` names. Losses, teacher forcing and units of inputs are no part of `MemoryModel`: they belong in
    the recipe and in the classes that it fits.

    Attributes:
        options_type: A frozen dataclass with a default for every field; sections are dataclasses too. It refuses what
            is out of range by a `ConfigurationError` (`__post_init__`).
        disagrees: Whether the memories that it fits know where their members disagree (`MemoryModel.with_bonus`).
        windows: Whether an update of its continual fit tells what really followed the moments it has replayed
            (`Replayed.windows`), from which a critic may learn.
    """

    options_type: type[OptionsT]
    disagrees: ClassVar[bool] = False
    windows: ClassVar[bool] = False

    @classmethod
    def learns_continually(cls) -> bool:
        """Whether there is a `continual` of the recipe's own."""
        return cls.continual is not Recipe.continual

    def check_spaces(self, observation_space: gym.Space[Any], action_space: gym.Space[Any], options: OptionsT) -> None:
        """Refuse an environment that the recipe cannot learn, before anything is collected; the default takes all.

        Args:
            observation_space: Of the environment, preprocessed.
            action_space: As the dream will have it.
            options: As for `fit`.

        Raises:
            ConfigurationError: Such an environment.
        """

    @abstractmethod
    def fit(self, job: Job[OptionsT]) -> Fitted:
        """Fit V and M to the episodes that are not held out.

        A fit that was killed continues from its checkpoints in `job.folder` when it is called again with the same job,
        and on the CPU ends with the same weights as an unbroken one.

        Raises:
            ConfigurationError: Observations, actions or episodes that the recipe cannot take, or checkpoints of a fit
                with other settings.
            NonFiniteError: A loss became NaN or infinite.
        """

    def continual(self, job: Job[OptionsT], tensors: dict[str, Tensor] | None = None) -> ContinualFit:
        """V and M that learn on while episodes come in (`LoopOptions.update_every`), begun on those of the job.

        Args:
            job: What the recipe is given.
            tensors: `ContinualFit.tensors` of an earlier call, to go on from; None begins.

        Raises:
            ConfigurationError: The recipe fits whole data sets only (the default), or cannot take the episodes.
        """
        raise ConfigurationError(
            f"{type(self).__name__} fits V and M anew each round and cannot learn after every episode: "
            "leave update_every out, or take recipe='rssm' or 'value_equivalent'"
        )

    def refit(self, options: OptionsT, *, replayed: int | None = None) -> OptionsT:
        """Options of a later fit to more data, which starts from the model before; the same ones by default.

        Args:
            options: Of the first fit.
            replayed: From how many real steps the fit is to learn in all, each counted as often as it is drawn; None
                leaves it to the options. A recipe that draws no batches has no use for it.
        """
        return options


@contextmanager
def going_on() -> Iterator[None]:
    """Only warns of rewards that M cannot say: the episode has been played, and a loop must not stop for good by it."""
    try:
        yield
    except ConfigurationError as error:
        warnings.warn(f"{error} This run goes on; larger ones count as the largest that M can say.", stacklevel=4)


@cache
def check_options(kind: type[nn.Module], options: Any) -> None:
    """Refuse options that the constructor of V or M refuses, before there are episodes to fit it to.

    Args:
        kind: A memory, which is made of a size, an action space and keyword arguments, or a vision.
        options: A frozen dataclass of the keyword arguments; a `reward_bound` of None is decided by the data.

    Raises:
        ConfigurationError: As the constructor says.
    """
    keywords = {name: value for name, value in asdict(options).items() if (name, value) != ("reward_bound", None)}
    with seeded_weights(0):
        if issubclass(kind, MemoryModel):
            kind(1, spaces.Discrete(2), **keywords)
        else:
            kind(**keywords)


def check_pictures(shape: Sequence[int], dtype: Any, vision: type[Vision]) -> None:
    """Refuse pictures of another shape than `vision` takes; vectors pass.

    Raises:
        ConfigurationError: Such pictures.
    """
    if dtype == np.uint8 and tuple(shape) != vision.observation_shape:
        raise ConfigurationError(
            f"pictures of shape {tuple(shape)}; the convolutions take {vision.observation_shape}. Preprocess them to "
            "that (image_size: 64)."
        )


def steps_for(replayed: int, batch: int) -> int:
    """Optimiser steps that draw `replayed` real steps, `batch` at a time; at least one."""
    return max(1, -(-replayed // batch))


def begin_with(module: nn.Module, other: nn.Module) -> None:
    """Give `module` the weights of `other`.

    Raises:
        ConfigurationError: They are of another class or of other shapes.
    """
    if type(module) is not type(other):
        raise ConfigurationError(
            f"the model to begin with has a {type(other).__name__}, and a {type(module).__name__} is to be fitted"
        )
    try:
        module.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise ConfigurationError(
            f"the model to begin with does not have the sizes that are asked for: {error}. Repeat its options."
        ) from error
