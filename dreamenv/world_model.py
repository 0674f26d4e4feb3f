"""A world model: vision, memory, spaces, start states and where they came from; saved to and loaded from a bundle."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.bundle import Bundle, StartStates, check_kinds, read_bundle, start_tensors, write_bundle
from dreamenv.errors import ConfigurationError, SpaceMismatchError, did_you_mean
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.ordinary import in_ordinary_torch
from dreamenv.memory.states import flatten_state, unflatten_state
from dreamenv.noise.base import Noise
from dreamenv.tensor_files import tensors_fingerprint
from dreamenv.types import STARTS, RealEnvSpec, Start
from dreamenv.vision.base import Vision

OBSERVATION_KINDS = ("features", "latent", "pixels", "state")
# Latents are unbounded; Gymnasium's checker warns of infinite bounds, and JSON has no infinity.
_LARGEST = float(np.finfo(np.float32).max)
# Pictures encoded at once; the encoder's activations are about 100 kB a picture.
_ENCODE_ROWS = 256


def check_temperature(temperature: float | None) -> None:
    """Refuse what is neither None, which is the model's own, nor a finite number of at least 0, which is the mode.

    Raises:
        ConfigurationError: Such a temperature.
    """
    if temperature is None:
        return
    real = isinstance(temperature, int | float | np.number) and not isinstance(temperature, bool)
    if not real or not math.isfinite(temperature) or temperature < 0:
        raise ConfigurationError(f"temperature must be a finite number of at least 0, got {temperature!r}")


def check_time_limit(max_episode_steps: int) -> int:
    """A dream's time limit in actions, as an int.

    Raises:
        ConfigurationError: It is no whole number of at least 1.
    """
    whole = isinstance(max_episode_steps, int | np.integer) and not isinstance(max_episode_steps, bool)
    if not whole or max_episode_steps < 1:
        raise ConfigurationError(f"max_episode_steps must be an integer of at least 1, got {max_episode_steps!r}")
    return int(max_episode_steps)


class WorldModel:
    """Vision and memory as one model of a real environment.

    Attributes:
        vision: V, a torch module.
        memory: M, a torch module.
        real: The real environment and its preprocessing.
        action_space: The real environment's action space.
        max_episode_steps: The dream's time limit in actions.
        temperature: Default temperature of the dream.
        starts: Start states.
        provenance: JSON-ready record of how the model came about (commands, seeds, real frames, scores).

    Raises:
        ConfigurationError: V and M do not fit each other, or a number is out of range.
    """

    def __init__(
        self,
        vision: Vision,
        memory: MemoryModel[Any],
        real: RealEnvSpec,
        action_space: gym.Space[Any],
        starts: StartStates,
        *,
        max_episode_steps: int,
        temperature: float = 1.0,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        sizes = (vision.embedding_size, vision.latent_size), (memory.embedding_size, memory.latent_size)
        if sizes[0] != sizes[1]:
            raise ConfigurationError(
                f"vision gives embeddings of {sizes[0][0]} and decodes latents of {sizes[0][1]}; "
                f"memory takes embeddings of {sizes[1][0]} and has latents of {sizes[1][1]}"
            )
        check_temperature(temperature)
        self.vision = vision.eval()
        self.memory = memory.eval()
        self.real = real
        self.action_space = action_space
        self.starts = starts
        self.max_episode_steps = check_time_limit(max_episode_steps)
        self.temperature = temperature
        self.provenance = provenance or {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.memory.device

    def to(self, device: torch.device | str) -> WorldModel:
        """Move the model to `device`, in place.

        Raises:
            ConfigurationError: The device is not there (there is no silent fall back to the CPU).
        """
        try:
            self.vision.to(device)
            self.memory.to(device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(f"device {device!r} cannot be used: {error}") from error
        self.starts = self.starts.to(device)
        return self

    def observation_space(self, observation: str = "features") -> spaces.Box:
        """The space of an observation kind: "features" `[F]`, "latent" `[Z]`, "state" `[S]` (float32), or "pixels".

        "state" is all that M remembers (of an LSTM its cell too) in one vector: what a planner dreams on from.

        Raises:
            ConfigurationError: An unknown kind, or pixels of a model of a vector environment.
        """
        if observation == "features":
            return spaces.Box(-_LARGEST, _LARGEST, (self.memory.feature_size,), np.float32)
        if observation == "latent":
            return spaces.Box(-_LARGEST, _LARGEST, (self.memory.latent_size,), np.float32)
        if observation == "state":
            return spaces.Box(-_LARGEST, _LARGEST, flatten_state(self._blank_state()).shape[1:], np.float32)
        if observation == "pixels":
            if not self.vision.can_decode:
                raise ConfigurationError(
                    f"observation='pixels': this model of {self.real.id} dreams without pictures: its vision does not "
                    "decode. Use observation='features'."
                )
            if not self.vision.is_image:
                raise ConfigurationError(
                    f"observation='pixels' needs an image environment; {self.real.id} has vector observations. "
                    "Use observation='latent' (the observation itself) or 'features'."
                )
            return spaces.Box(0, 255, self.vision.observation_shape, np.uint8)
        raise ConfigurationError(
            f"observation={observation!r} is not known. {did_you_mean(str(observation), OBSERVATION_KINDS)}"
        )

    def observation(self, state: Any, kind: str = "features") -> Tensor:
        """What an agent sees of memory states: `[B, F]`, `[B, Z]`, `[B, S]` float32 or `[B, 64, 64, 3]` uint8."""
        if kind == "features":
            return self.memory.features(state)
        if kind == "state":
            return flatten_state(state)
        latent = self.memory.latent(state)
        return latent if kind == "latent" else self.vision.decode_uint8(latent)

    @torch.no_grad()
    def encode(self, observations: NDArray[Any] | Tensor) -> Tensor:
        """What V makes of real observations `[B, *observation_shape]`: embeddings `[B, E]`, on the model's device.

        Raises:
            SpaceMismatchError: Observations of another shape.
        """
        if tuple(observations.shape[1:]) != self.vision.observation_shape:
            raise SpaceMismatchError(
                f"got observations of shape {tuple(observations.shape)}, expected (B, "
                f"{', '.join(map(str, self.vision.observation_shape))}) of the model of {self.real.id}"
            )
        begins = range(0, max(len(observations), 1), _ENCODE_ROWS)
        parts = [observations[begin : begin + _ENCODE_ROWS] for begin in begins]
        # A copy, since V may return what it is given, and an array may be written to or be read-only
        tensors = (part if isinstance(part, Tensor) else torch.from_numpy(np.array(part)) for part in parts)
        return torch.cat([self.vision.encode(part.to(self.device)) for part in tensors])

    @torch.no_grad()
    def begin(self, observations: NDArray[Any] | Tensor, *, noise: torch.Generator | Noise) -> Any:
        """Memory states `[B]` of real episodes that begin with `observations` `[B, *observation_shape]`."""
        return self.memory.initial(self.encode(observations), noise=noise)

    @torch.no_grad()
    def observe(
        self,
        state: Any,
        action: Tensor,
        observations: NDArray[Any] | Tensor,
        *,
        noise: torch.Generator | Noise,
    ) -> tuple[Any, Prediction]:
        """A real step: `action` `[B, A]` or `[B]` was taken in `state`, and `observations` were seen next.

        The prediction is what M said of the step before it saw them.
        """
        return self.memory.observe(state, action.to(self.device), self.encode(observations), noise=noise)

    def memory_state(self, observation: Tensor) -> Any:
        """The memory states behind observations `[B, S]` of kind "state".

        Raises:
            ConfigurationError: Observations of another length.
        """
        return unflatten_state(self._blank_state(), observation)

    @torch.no_grad()
    def _blank_state(self) -> Any:
        nothing = torch.zeros(1, self.memory.embedding_size, device=self.device)
        return self.memory.initial(nothing, noise=torch.Generator(self.device).manual_seed(0))

    def with_termination(self, termination: str) -> WorldModel:
        """This model with another of its memory's ways of ending dreams; all weights are shared.

        Raises:
            ConfigurationError: See `MemoryModel.with_termination`.
        """
        model = copy.copy(self)
        model.memory = self.memory.with_termination(termination)
        return model

    def with_real(self, real: RealEnvSpec) -> WorldModel:
        """This model with another real environment to look at, such as one in other colours; all else is shared."""
        model = copy.copy(self)
        model.real = real
        return model

    def with_bonus(self, bonus: float, *, reward: float = 1.0) -> WorldModel:
        """This model with dreams that pay `reward` times their reward plus `bonus` times the disagreement of its
        ensemble; all weights are shared.

        Raises:
            ConfigurationError: See `MemoryModel.with_bonus`.
        """
        model = copy.copy(self)
        model.memory = self.memory.with_bonus(bonus, reward=reward)
        return model

    def start(self, index: Tensor, *, start: Start = "initial", noise: torch.Generator | Noise) -> Any:
        """Memory states of start states `index` `[B]` int64 of kind `start`.

        What a memory draws once for a whole dream, such as a member of an ensemble, is drawn anew for each.
        """
        if start == "first" or (start == "initial" and not self.starts.settled):
            return self.memory.initial(self.starts.first[index].float(), noise=noise)
        kept = self.starts.settled if start == "initial" else self.starts.replay
        parts = {name: part[index] for name, part in kept.items()}
        state = self.memory.state_from_tensors(
            {name: part.float() if part.is_floating_point() else part for name, part in parts.items()}
        )
        return self.memory.branch(state, 1, noise=noise)

    def with_starts(self, starts: StartStates) -> WorldModel:
        """The same model, its weights shared, with other start states."""
        parts = self.vision, self.memory, self.real, self.action_space, starts
        return WorldModel(
            *parts,
            max_episode_steps=self.max_episode_steps,
            temperature=self.temperature,
            provenance=self.provenance,
        )

    def start_count(self, start: Start) -> int:
        """How many start states of a kind there are: "initial" ones are where dreams begin, "first" ones the first
        observations of real episodes (the same where the real environment has no start margin), "replay" ones moments
        within them.

        Raises:
            ConfigurationError: An unknown kind, or a kind this model holds none of.
        """
        first = {"latent": self.starts.first}
        kinds = {"initial": self.starts.settled or first, "replay": self.starts.replay, "first": first}
        if not isinstance(start, str) or start not in kinds:
            raise ConfigurationError(f"start={start!r} is not known. {did_you_mean(str(start), STARTS)}")
        count = len(next(iter(kinds[start].values()), ()))
        if count == 0:
            raise ConfigurationError(f"start={start!r}: this model of {self.real.id} holds no {start} start states")
        return count

    def save(self, path: str | Path, *, half: bool = False) -> dict[str, str]:
        """Write the bundle to folder `path`, exact to the bit; returns the sha256 of each file written.

        An agent.safetensors or README.md that is there already stays.

        Args:
            path: The folder.
            half: Keep the weights in float16, which halves the files. Scales, means and start states of vectors keep
                all their digits.

        Raises:
            ConfigurationError: `half` would change the dream by more than 2% of its spread.
            BundleError: V or M could not be read again: its kind is not registered, or is another class.
        """
        check_kinds(self.vision, self.memory)
        return write_bundle(path, self.as_bundle(), half=half)

    def as_bundle(self) -> Bundle:
        """What a bundle holds of it, not copied."""
        parts = (self.vision, self.memory, self.real, self.action_space, self.starts)
        return Bundle(*parts, self.max_episode_steps, self.temperature, self.provenance)

    @classmethod
    @in_ordinary_torch
    def load(cls, id_or_path: str | Path, *, device: torch.device | str = "cpu") -> WorldModel:
        """The world model of a registered id, or of the bundle in a folder.

        Raises:
            UnknownDreamError: No such id or folder; the nearest ids are named.
            BundleError: A file is missing, cut short, changed since it was saved, or of a newer format.
        """
        found = read_bundle(id_or_path)
        model = cls(
            found.vision,
            found.memory,
            found.real,
            found.action_space,
            found.starts,
            max_episode_steps=found.max_episode_steps,
            temperature=found.temperature,
            provenance=found.provenance,
        )
        return model.to(device)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the model's parameters or start states."""
        return tensors_fingerprint(self._parameters() | start_tensors(self.starts))

    def weights_digest(self) -> str:
        """Sixteen hexadecimal digits that change with what V and M make of observations and actions, and not where they
        are rounded to half precision, or given other start states: an agent that has learned here can tell by them."""
        return tensors_fingerprint(
            {name: part.half() if part.is_floating_point() else part for name, part in self._parameters().items()}
        )

    def _parameters(self) -> dict[str, Tensor]:
        parts = {f"vision.{name}": part for name, part in self.vision.state_dict().items()}
        return parts | {f"memory.{name}": part for name, part in self.memory.state_dict().items()}
