"""A world model: vision, memory, spaces, start states and where they came from; saved to and loaded from a bundle."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors_from_bytes
from safetensors.torch import save
from torch import Tensor

from dreamenv import registry
from dreamenv.errors import BundleError, ConfigurationError, UnknownDreamError, did_you_mean
from dreamenv.memory.base import MemoryModel, Noise, as_noise, flatten_state, unflatten_state
from dreamenv.memory.ensemble import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn import MDNRNN
from dreamenv.memory.tabular import TabularMemory
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import IdentityVision, Vision
from dreamenv.vision.vae import ConvVAE

FORMAT_VERSION = 1
OBSERVATION_KINDS = ("features", "latent", "pixels", "state")
# Latents are unbounded; Gymnasium's checker warns of infinite bounds, and JSON has no infinity.
_LARGEST = float(np.finfo(np.float32).max)
_VISIONS = {"conv_vae": ConvVAE, "identity": IdentityVision}
_MEMORIES = {"mdn_rnn": MDNRNN, "probabilistic_ensemble": ProbabilisticEnsemble, "tabular": TabularMemory}


@dataclass(frozen=True)
class StartStates:
    """Where dreams begin.

    Attributes:
        initial: `[N, Z]` latents of the first observations of real episodes.
        replay: Tensors of a memory state by field name, each `[M, ...]`: moments in real episodes, burned in by
            teacher forcing from the episode's beginning.
        settled: The same for the moments at which the start margin of real episodes is over (`RealEnvSpec`). Where
            there are any, dreams begin at these instead of `initial`, which show what is never seen again.
    """

    initial: Tensor
    replay: dict[str, Tensor] = field(default_factory=dict)
    settled: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> StartStates:
        """The same start states on `device`."""
        replay, settled = ({k: v.to(device) for k, v in part.items()} for part in (self.replay, self.settled))
        return StartStates(self.initial.to(device), replay, settled)


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
        if vision.latent_size != memory.latent_size:
            raise ConfigurationError(f"vision has {vision.latent_size} latents, memory {memory.latent_size}")
        self.vision = vision.eval()
        self.memory = memory.eval()
        self.real = real
        self.action_space = action_space
        self.starts = starts
        self.max_episode_steps = max_episode_steps
        self.temperature = temperature
        self.provenance = provenance or {}

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.memory.parameters()).device

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
            return spaces.Box(-_LARGEST, _LARGEST, (self.vision.latent_size,), np.float32)
        if observation == "state":
            return spaces.Box(-_LARGEST, _LARGEST, flatten_state(self._blank_state()).shape[1:], np.float32)
        if observation == "pixels":
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

    def memory_state(self, observation: Tensor) -> Any:
        """The memory states behind observations `[B, S]` of kind "state".

        Raises:
            ConfigurationError: Observations of another length.
        """
        return unflatten_state(self._blank_state(), observation)

    @torch.no_grad()
    def _blank_state(self) -> Any:
        nothing = torch.zeros(1, self.memory.latent_size, device=self.device)
        return self.memory.initial(nothing, generator=torch.Generator(self.device).manual_seed(0))

    def start(self, index: Tensor, *, start: str = "initial", generator: torch.Generator | Noise) -> Any:
        """Memory states of start states `index` `[B]` int64 of kind `start` ("initial", "replay" or "first")."""
        if start == "first" or (start == "initial" and not self.starts.settled):
            return self.memory.initial(self.starts.initial[index].float(), generator=as_noise(generator))
        kept = self.starts.settled if start == "initial" else self.starts.replay
        parts = {name: part[index] for name, part in kept.items()}
        return self.memory.state_from_tensors(
            {name: part.float() if part.is_floating_point() else part for name, part in parts.items()}
        )

    def start_count(self, start: str) -> int:
        """How many start states of a kind there are: "initial" ones are where dreams begin, "first" ones the first
        observations of real episodes (the same where the real environment has no start margin), "replay" ones moments
        within them.

        Raises:
            ConfigurationError: An unknown kind, or a kind this model holds none of.
        """
        first = {"latent": self.starts.initial}
        kinds = {"initial": self.starts.settled or first, "replay": self.starts.replay, "first": first}
        if start not in kinds:
            raise ConfigurationError(f"start={start!r} is not known; it is 'first', 'initial' or 'replay'")
        count = len(next(iter(kinds[start].values()), ()))
        if count == 0:
            raise ConfigurationError(f"start={start!r}: this model of {self.real.id} holds no {start} start states")
        return count

    def save(self, path: str | Path) -> dict[str, str]:
        """Write the bundle (fp16 weights) to folder `path` and return the sha256 of each file written.

        An agent.safetensors or README.md that is there already stays.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        weights = {f"vision.{name}": tensor for name, tensor in self.vision.state_dict().items()}
        weights |= {f"memory.{name}": tensor for name, tensor in self.memory.state_dict().items()}
        starts = {"initial": self.starts.initial} | {f"replay.{k}": v for k, v in self.starts.replay.items()}
        starts |= {f"settled.{k}": v for k, v in self.starts.settled.items()}
        for filename, tensors in (("model.safetensors", weights), ("starts.safetensors", starts)):
            halves = {k: _half(v).cpu().contiguous() for k, v in tensors.items()}
            temporary = path / f".{filename}.part"
            # save_file leaves files that their owner alone can read
            temporary.write_bytes(save(halves, metadata={"format_version": str(FORMAT_VERSION)}))
            os.replace(temporary, path / filename)
        config = {
            "format_version": FORMAT_VERSION,
            "real": asdict(self.real),
            "action_space": space_to_json(self.action_space),
            "vision": self.vision.config(),
            "memory": self.memory.config(),
            "max_episode_steps": self.max_episode_steps,
            "temperature": self.temperature,
            "provenance": self.provenance,
        }
        temporary = path / ".config.json.part"
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path / "config.json")
        return {name: file_sha256(path / name) for name in ("config.json", "model.safetensors", "starts.safetensors")}

    @classmethod
    def load(cls, id_or_path: str | Path, *, device: torch.device | str = "cpu") -> WorldModel:
        """The world model of a registered id, or of the bundle in a folder.

        Raises:
            UnknownDreamError: No such id or folder; the nearest ids are named.
            BundleError: A file is missing, cut short, of a wrong sha256, or of a newer format.
        """
        path, expected = resolve_bundle(id_or_path)
        config = read_config(path, expected)
        action_space = space_from_json(config["action_space"])
        weights = read_tensors(path, "model.safetensors", expected)
        starts = read_tensors(path, "starts.safetensors", expected)
        vision = _build(_VISIONS, config["vision"], path, "vision")
        memory = _build(_MEMORIES, config["memory"], path, "memory", action_space=action_space)
        for module, prefix in ((vision, "vision."), (memory, "memory.")):
            part = {k.removeprefix(prefix): _full(v) for k, v in weights.items() if k.startswith(prefix)}
            try:
                module.load_state_dict(part)
            except RuntimeError as error:
                raise BundleError(f"{path / 'model.safetensors'}: does not fit config.json: {error}") from error
        if "initial" not in starts:
            raise BundleError(f"{path / 'starts.safetensors'}: no tensor 'initial'")
        replay, settled = (
            {k.removeprefix(prefix): _full(v) for k, v in starts.items() if k.startswith(prefix)}
            for prefix in ("replay.", "settled.")
        )
        real = config["real"] | {"crop": tuple(config["real"]["crop"]) if config["real"]["crop"] else None}
        model = cls(
            vision,
            memory,
            RealEnvSpec(**real),
            action_space,
            StartStates(_full(starts["initial"]), replay, settled),
            max_episode_steps=config["max_episode_steps"],
            temperature=config["temperature"],
            provenance=config["provenance"],
        )
        return model.to(device)


def resolve_bundle(id_or_path: str | Path) -> tuple[Path, dict[str, str]]:
    """Folder of a bundle and the sha256 that registry.yaml wants of its files (empty for a plain folder).

    Raises:
        UnknownDreamError: Neither a folder nor a registered id.
    """
    path = Path(id_or_path)
    if path.is_dir():
        return path, {}
    if isinstance(id_or_path, Path) or os.sep in str(id_or_path):
        raise UnknownDreamError(f"{id_or_path}: no such folder; expected a bundle's folder or a registered id")
    entry = registry.find(str(id_or_path))
    return entry.checkpoint, entry.section.sha256


def read_config(path: Path, expected: dict[str, str] | None = None) -> dict[str, Any]:
    """config.json of the bundle at `path`, its version and keys checked."""
    file = path / "config.json"
    data = _read_bytes(file, (expected or {}).get("config.json"))
    try:
        config = json.loads(data)
    except ValueError as error:
        raise BundleError(f"{file}: not JSON (cut short?): {error}") from error
    if not isinstance(config, dict):
        raise BundleError(f"{file}: found {type(config).__name__}, expected an object")
    version = config.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            f"{file}: format_version {version!r}, this dreamenv reads up to {FORMAT_VERSION}. Upgrade dreamenv."
        )
    wanted = {"real", "action_space", "vision", "memory", "max_episode_steps", "temperature", "provenance"}
    missing = sorted(wanted - config.keys())
    if missing:
        raise BundleError(f"{file}: missing key {', '.join(missing)}")
    return config


def read_tensors(path: Path, filename: str, expected: dict[str, str] | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file of the bundle at `path`, its sha256 checked where one is known."""
    data = _read_bytes(path / filename, (expected or {}).get(filename))
    try:
        return load_tensors_from_bytes(data)
    except SafetensorError as error:
        raise BundleError(f"{path / filename}: not a whole safetensors file (cut short?): {error}") from error


def _read_bytes(file: Path, sha256: str | None) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); the bundle is incomplete") from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 is not None and found != sha256:
        raise BundleError(f"{file}: sha256 is {found}, registry.yaml wants {sha256}. Reinstall or download it again.")
    return data


def file_sha256(file: Path) -> str:
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _half(tensor: Tensor) -> Tensor:
    fits = tensor.is_floating_point() and (tensor.numel() == 0 or tensor.abs().max() < torch.finfo(torch.float16).max)
    return tensor.half() if fits else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _build(kinds: dict[str, Any], config: dict[str, Any], path: Path, part: str, **extra: Any) -> Any:
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in kinds:
        raise BundleError(f"{path / 'config.json'}: {part}.kind is {kind!r}. {did_you_mean(str(kind), kinds)}")
    try:
        return kinds[kind](**options, **extra)
    except TypeError as error:
        raise BundleError(f"{path / 'config.json'}: {part}: {error}") from error


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A Discrete or one-dimensional Box space as JSON."""
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.Box):
        return {"kind": "box", "low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
    raise ConfigurationError(f"only Discrete and Box action spaces can be saved, got {space}")


def space_from_json(data: dict[str, Any]) -> gym.Space[Any]:
    """The inverse of `space_to_json`."""
    if data.get("kind") == "discrete":
        return spaces.Discrete(data["n"], start=data["start"])
    if data.get("kind") == "box":
        dtype = np.dtype(data["dtype"])
        return spaces.Box(np.array(data["low"], dtype), np.array(data["high"], dtype), dtype=dtype.type)
    raise BundleError(f"action_space.kind is {data.get('kind')!r}; expected 'box' or 'discrete'")
