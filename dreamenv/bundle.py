"""The format of a saved model: the only place that knows it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
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
from dreamenv.files import sha256_of, write_bytes, write_json
from dreamenv.kinds import Register
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.kinds import MEMORIES
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.vision.kinds import VISIONS

FORMAT_VERSION = 1
CONFIG_FILE, WEIGHTS_FILE, STARTS_FILE = "config.json", "model.safetensors", "starts.safetensors"


@dataclass(frozen=True)
class StartStates:
    """Where dreams begin.

    Attributes:
        first: `[N, Z]` latents of the first observations of real episodes.
        replay: Tensors of a memory state by field name, each `[M, ...]`: moments in real episodes, burned in by
            teacher forcing from the episode's beginning.
        settled: The same for the moments at which the start margin of real episodes is over (`RealEnvSpec`). Where
            there are any, dreams begin at these instead of `first`, which show what is never seen again.
    """

    first: Tensor
    replay: dict[str, Tensor] = field(default_factory=dict)
    settled: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> StartStates:
        """The same start states on `device`."""
        replay, settled = ({k: v.to(device) for k, v in part.items()} for part in (self.replay, self.settled))
        return StartStates(self.first.to(device), replay, settled)


@dataclass(frozen=True)
class Bundle:
    """What a folder holds of a world model; see `WorldModel` for the attributes."""

    vision: Vision
    memory: MemoryModel[Any]
    real: RealEnvSpec
    action_space: gym.Space[Any]
    starts: StartStates
    max_episode_steps: int
    temperature: float
    provenance: dict[str, Any]


def write_bundle(path: str | Path, bundle: Bundle, *, half: bool = True) -> dict[str, str]:
    """Write `bundle` to folder `path`, in fp16 unless `half` is false, and return the sha256 of each file written.

    Files that a bundle does not consist of, such as agent.safetensors and README.md, stay as they are.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    weights = {f"vision.{name}": tensor for name, tensor in bundle.vision.state_dict().items()}
    weights |= {f"memory.{name}": tensor for name, tensor in bundle.memory.state_dict().items()}
    for filename, tensors in ((WEIGHTS_FILE, weights), (STARTS_FILE, start_tensors(bundle.starts))):
        parts = {name: _half(part) if half else part for name, part in tensors.items()}
        # Copies, since safetensors refuses tensors that share memory
        written = {name: part.detach().to("cpu", copy=True).contiguous() for name, part in parts.items()}
        # save_file leaves files that their owner alone can read
        write_bytes(path / filename, save(written, metadata={"format_version": str(FORMAT_VERSION)}))
    config = {
        "format_version": FORMAT_VERSION,
        "real": bundle.real.to_json(),
        "action_space": space_to_json(bundle.action_space),
        "vision": bundle.vision.config(),
        "memory": bundle.memory.config(),
        "max_episode_steps": bundle.max_episode_steps,
        "temperature": bundle.temperature,
        "provenance": bundle.provenance,
    }
    # The file that a bundle is finished with
    write_json(path / CONFIG_FILE, config)
    return {name: sha256_of(path / name) for name in (CONFIG_FILE, WEIGHTS_FILE, STARTS_FILE)}


def read_bundle(id_or_path: str | Path) -> Bundle:
    """The bundle of a registered id, or the one in a folder, on the CPU.

    Raises:
        UnknownDreamError: No such id or folder; the nearest ids are named.
        BundleError: A file is missing, cut short, of a wrong sha256, of a newer format or of an unknown kind.
    """
    path, expected = resolve_bundle(id_or_path)
    config = read_config(path, expected)
    action_space = space_from_json(config["action_space"])
    weights = read_tensors(path, WEIGHTS_FILE, expected)
    starts = read_tensors(path, STARTS_FILE, expected)
    vision = _build(VISIONS, config["vision"], path)
    memory = _build(MEMORIES, config["memory"], path, action_space=action_space)
    for module, prefix in ((vision, "vision."), (memory, "memory.")):
        part = {k.removeprefix(prefix): _full(v) for k, v in weights.items() if k.startswith(prefix)}
        try:
            module.load_state_dict(part)
        except RuntimeError as error:
            raise BundleError(f"{path / WEIGHTS_FILE}: does not fit {CONFIG_FILE}: {error}") from error
    if "initial" not in starts:
        raise BundleError(f"{path / STARTS_FILE}: no tensor 'initial'")
    replay, settled = (
        {k.removeprefix(prefix): _full(v) for k, v in starts.items() if k.startswith(prefix)}
        for prefix in ("replay.", "settled.")
    )
    try:
        real = registry.real_env_spec(config["real"])
    except (TypeError, KeyError, ValueError) as error:
        raise BundleError(f"{path / CONFIG_FILE}: real: not a real environment of this version: {error!r}") from error
    return Bundle(
        vision,
        memory,
        real,
        action_space,
        StartStates(_full(starts["initial"]), replay, settled),
        config["max_episode_steps"],
        config["temperature"],
        config["provenance"],
    )


def start_tensors(starts: StartStates) -> dict[str, Tensor]:
    """Start states as named tensors, as they are saved."""
    tensors = {"initial": starts.first} | {f"replay.{name}": part for name, part in starts.replay.items()}
    return tensors | {f"settled.{name}": part for name, part in starts.settled.items()}


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
    file = path / CONFIG_FILE
    if not file.exists() and (path / "bundle" / CONFIG_FILE).exists():
        raise BundleError(f"{path} is the folder of a run; its bundle is {path / 'bundle'}")
    data = _read_bytes(file, (expected or {}).get(CONFIG_FILE))
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


def _half(tensor: Tensor) -> Tensor:
    fits = tensor.is_floating_point() and (tensor.numel() == 0 or tensor.abs().max() < torch.finfo(torch.float16).max)
    return tensor.half() if fits else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _build(kinds: Register[Any], config: dict[str, Any], path: Path, **extra: Any) -> Any:
    options = dict(config)
    kind = options.pop("kind", None)
    if kind not in kinds:
        known = did_you_mean(str(kind), kinds.names())
        raise BundleError(f"{path / CONFIG_FILE}: {kinds.what}.kind is {kind!r}. {known}")
    try:
        return kinds[kind](**options, **extra)
    except TypeError as error:
        raise BundleError(f"{path / CONFIG_FILE}: {kinds.what}: {error}") from error


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
