"""The format of a saved model: the only place that knows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from dreamenv import registry
from dreamenv.bundle_config import (
    CONFIG_FILE,
    FORMAT_VERSION,
    STARTS_FILE,
    WEIGHTS_FILE,
    read_config,
    sealed_config,
    space_from_json,
    space_to_json,
)
from dreamenv.errors import BundleError, UnknownDreamError
from dreamenv.files import sha256_of, sweep, write_bytes, write_json
from dreamenv.half_precision import check_half, half_states, half_weights
from dreamenv.kinds import Register
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.kinds import MEMORIES
from dreamenv.schema import check_arguments, checked
from dreamenv.tensor_files import Header, TooLargeError, built_within, packed, read_content, read_header, tensors_of
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.vision.kinds import VISIONS


@dataclass(frozen=True)
class StartStates:
    """Where dreams begin.

    Attributes:
        first: `[N, E]` embeddings of the first observations of real episodes.
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


def write_bundle(path: str | Path, bundle: Bundle, *, half: bool = False) -> dict[str, str]:
    """Write `bundle` to folder `path` and return the sha256 of each file written.

    config.json is written last and holds the sums of the other files, so that a save that is cut off is noticed. Files
    that a bundle does not consist of, such as agent.safetensors and README.md, stay as they are.

    Args:
        path: The folder.
        bundle: What is written, to the bit unless `half`.
        half: Keep the weights in float16, and of pictures the start states too; scales, means and start states of
            vectors keep all their digits.

    Raises:
        ConfigurationError: `half` would change the dream; see `check_half`.
    """
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    sweep(path)
    contents = {WEIGHTS_FILE: _weights(bundle, half=half), STARTS_FILE: _starts(bundle, half=half)}
    for filename, tensors in contents.items():
        write_bytes(path / filename, packed(tensors, {"format_version": str(FORMAT_VERSION)}))
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
    seal_bundle(path, config)
    return {name: sha256_of(path / name) for name in (CONFIG_FILE, WEIGHTS_FILE, STARTS_FILE)}


def check_kinds(vision: Vision, memory: MemoryModel[Any]) -> None:
    """Refuse parts that a bundle would give back as another class, or not at all.

    Raises:
        BundleError: A kind is not registered, or is another class.
    """
    _check_kind(MEMORIES, memory)
    _check_kind(VISIONS, vision)


def _check_kind(register: Register[Any], part: MemoryModel[Any] | Vision) -> None:
    kind, name = str(part.config().get("kind")), type(part).__name__
    if kind not in register:
        raise BundleError(
            f"{name}.config() gives kind={kind!r}, which nothing is registered as, so that the bundle could not be "
            f"read again: register_{register.what}({kind!r}, {name}) before saving"
        )
    if register[kind] is not type(part):
        raise BundleError(
            f"{name}.config() gives kind={kind!r}, which is {register[kind].__name__}, and the bundle would be read as "
            f"that. Give {name} a kind of its own in config(), and register it"
        )


def seal_bundle(path: Path, config: Mapping[str, Any]) -> None:
    """Write config.json with the sums of itself and of the tensors that lie in folder `path`."""
    files = {}
    for name in (WEIGHTS_FILE, STARTS_FILE):
        tensors = {
            key: part.model_dump(include={"dtype", "shape"}) for key, part in read_header(path / name).tensors.items()
        }
        files[name] = {"sha256": sha256_of(path / name), "tensors": tensors}
    write_json(path / CONFIG_FILE, sealed_config({**config, "files": files}))


def read_bundle(id_or_path: str | Path) -> Bundle:
    """The bundle of a registered id, or the one in a folder, on the CPU.

    Sums, types and sizes are compared before anything is allocated.

    Raises:
        UnknownDreamError: No such id or folder; the nearest ids are named.
        BundleError: A file is missing, changed or cut short, of a newer format or of an unknown kind, what is in one
            does not fit what is in another, or the registry says that the id is a dream of another environment.
    """
    path, expected = resolve_bundle(id_or_path)
    config = read_config(path, expected)
    file = path / CONFIG_FILE
    real = _real(config["real"], file)
    _check_entry(id_or_path, real, path)
    action_space = space_from_json(config["action_space"], f"{file}: action_space")
    headers = {name: read_header(path / name) for name in (WEIGHTS_FILE, STARTS_FILE)}
    elements = headers[WEIGHTS_FILE].elements
    builders = {
        "vision": _builder(VISIONS, config["vision"], file),
        "memory": _builder(MEMORIES, config["memory"], file, action_space=action_space),
    }
    modules = {part: _made(build, elements, f"{file}: {part}") for part, build in builders.items()}
    wanted = {
        f"{part}.{name}": tuple(tensor.shape)
        for part, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    _check_shapes(path / WEIGHTS_FILE, headers[WEIGHTS_FILE], wanted)
    tensors = {}
    for name, header in headers.items():
        sums = {"registry.yaml": expected.get(name), CONFIG_FILE: config["files"][name]["sha256"]}
        tensors[name] = tensors_of(read_content(path / name, header, sums), path / name)
    for part, module in modules.items():
        own = {k.removeprefix(f"{part}."): v for k, v in tensors[WEIGHTS_FILE].items() if k.startswith(f"{part}.")}
        _fill(module, own, path / WEIGHTS_FILE)
    vision, memory = modules["vision"], modules["memory"]
    return Bundle(
        vision,
        memory,
        real,
        action_space,
        starts_from_tensors(tensors[STARTS_FILE], memory, path / STARTS_FILE),
        config["max_episode_steps"],
        config["temperature"],
        config["provenance"],
    )


def _weights(bundle: Bundle, *, half: bool) -> dict[str, Tensor]:
    """State of V and M by name."""
    parts = {"vision": bundle.vision, "memory": bundle.memory}
    states = {name: half_weights(part) if half else part.state_dict() for name, part in parts.items()}
    return {f"{part}.{name}": tensor for part, state in states.items() for name, tensor in state.items()}


def _starts(bundle: Bundle, *, half: bool) -> dict[str, Tensor]:
    """Start states by name; those of vectors are never halved."""
    tensors = start_tensors(bundle.starts)
    if not half:
        return tensors
    saved = half_states(tensors) if bundle.vision.is_image else tensors
    check_half(bundle.vision, bundle.memory, bundle.action_space, tensors, saved)
    return saved


def _real(found: dict[str, Any], file: Path) -> RealEnvSpec:
    checked(registry.RealSection, found, f"{file}: real: not a real environment of this version")
    try:
        return registry.real_env_spec(found)
    except (TypeError, KeyError, ValueError) as error:
        raise BundleError(f"{file}: real: not a real environment of this version: {error!r}") from error


def _builder(kinds: Register[Any], config: dict[str, Any], file: Path, **extra: Any) -> Callable[[], nn.Module]:
    """What makes the module that `config` describes, its arguments checked."""
    options = dict(config)
    kind = options.pop("kind", None)
    if not isinstance(kind, str) or kind not in kinds:
        raise BundleError(f"{file}: {kinds.what}.kind is {kind!r}. {kinds.known(kind)}")
    check_arguments(kinds[kind], options, f"{file}: {kinds.what}")
    return partial(kinds[kind], **options, **extra)


def _made(build: Callable[[], nn.Module], elements: int, where: str) -> Any:
    """What `build` makes, if it asks for about as many numbers as the `elements` in the weights' file."""
    try:
        return built_within(build, elements)
    except TooLargeError as error:
        raise BundleError(f"{where}: does not fit {WEIGHTS_FILE}, which holds {elements:,} numbers: {error}") from error
    # Kinds may be of others, and what their constructors raise is theirs
    except Exception as error:
        raise BundleError(f"{where}: cannot be made: {error}") from error


def _check_shapes(file: Path, header: Header, wanted: Mapping[str, tuple[int, ...]]) -> None:
    lost, strange = sorted(wanted.keys() - header.tensors.keys()), sorted(header.tensors.keys() - wanted.keys())
    if lost or strange:
        what = f"it lacks tensor {lost[0]}" if lost else f"nothing takes its tensor {strange[0]}"
        raise BundleError(f"{file}: does not fit {CONFIG_FILE}: {what}")
    for name, shape in wanted.items():
        found = tuple(header.tensors[name].shape)
        if found != shape:
            raise BundleError(
                f"{file}: does not fit {CONFIG_FILE}: tensor {name} has shape {found}, {CONFIG_FILE} asks for {shape}"
            )


def _fill(module: nn.Module, state: dict[str, Tensor], file: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BundleError(f"{file}: does not fit {CONFIG_FILE}: {error}") from error


def start_tensors(starts: StartStates) -> dict[str, Tensor]:
    """Start states as named tensors, as they are saved."""
    tensors = {"initial": starts.first} | {f"replay.{name}": part for name, part in starts.replay.items()}
    return tensors | {f"settled.{name}": part for name, part in starts.settled.items()}


def starts_from_tensors(tensors: Mapping[str, Tensor], memory: MemoryModel[Any], file: Path) -> StartStates:
    """The inverse of `start_tensors`, for `memory`; floats have all their digits.

    Raises:
        BundleError: A name, shape or type that is not the memory's.
    """
    kinds: dict[str, dict[str, Tensor]] = {"replay.": {}, "settled.": {}}
    for name, part in tensors.items():
        prefix, _, own = name.partition(".")
        if name != "initial" and f"{prefix}." not in kinds:
            raise BundleError(f"{file}: tensor {name!r} is none of start states; expected initial, replay.*, settled.*")
        if name != "initial":
            kinds[f"{prefix}."][own] = _full(part)
    first = tensors.get("initial")
    if first is None:
        raise BundleError(f"{file}: no tensor 'initial'")
    if first.shape[1:] != (memory.embedding_size,) or not first.is_floating_point():
        raise BundleError(
            f"{file}: tensor 'initial' has shape {tuple(first.shape)} and type {first.dtype}; expected floats of shape "
            f"(N, {memory.embedding_size})"
        )
    for prefix, parts in kinds.items():
        _check_states(parts, memory, f"{file}: {prefix}")
    return StartStates(_full(first), kinds["replay."], kinds["settled."])


@torch.no_grad()
def _check_states(parts: Mapping[str, Tensor], memory: MemoryModel[Any], where: str) -> None:
    """Refuse states, by field, that are not of `memory`; none at all are in order."""
    if not parts:
        return
    fields = memory.state_type._fields
    if parts.keys() != set(fields):
        raise BundleError(f"{where}* are {', '.join(sorted(parts))}; expected {', '.join(sorted(fields))}")
    generator = torch.Generator(memory.device).manual_seed(0)
    blank = memory.initial(torch.zeros(1, memory.embedding_size, device=memory.device), noise=generator)
    rows = {len(part) if part.ndim else -1 for part in parts.values()}
    for name, like in zip(fields, blank, strict=True):
        part = parts[name]
        fits = part.ndim == like.ndim and part.shape[1:] == like.shape[1:] and len(rows) == 1
        if not fits or part.is_floating_point() != like.is_floating_point():
            wanted = ", ".join(["N", *map(str, like.shape[1:])])
            raise BundleError(
                f"{where}{name} has shape {tuple(part.shape)} and type {part.dtype}; expected ({wanted}) of "
                f"{like.dtype}, with one N for all fields"
            )
    if any(not part.is_floating_point() for part in parts.values()):
        _check_numbers(parts, memory, where)


def _check_numbers(parts: Mapping[str, Tensor], memory: MemoryModel[Any], where: str) -> None:
    """Refuse states whose whole numbers, such as the member of an ensemble, name nothing."""
    if any(bool((part < 0).any()) for part in parts.values() if not part.is_floating_point()):
        raise BundleError(f"{where}* hold numbers below 0 where something is counted")
    try:
        memory.features(memory.state_from_tensors(dict(parts)))
    except (IndexError, RuntimeError, ValueError) as error:
        raise BundleError(f"{where}* are no states of {type(memory).__name__}: {error}") from error


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _check_entry(id_or_path: str | Path, real: RealEnvSpec, path: Path) -> None:
    """Refuse a bundle of another real environment than its registry says."""
    if registry.folder_of(id_or_path) is not None:
        return
    entry = registry.find(str(id_or_path))
    if entry.section.real.id != real.id:
        raise BundleError(
            f"{path} is a dream of {real.id}; {entry.source} says that {entry.id} is one of {entry.section.real.id}"
        )


def resolve_bundle(id_or_path: str | Path) -> tuple[Path, dict[str, str]]:
    """Folder of a bundle and the sha256 that registry.yaml wants of its files (empty for a plain folder).

    A run's folder names the bundle in it. A registered id goes before a folder of that name (`registry.folder_of`).

    Raises:
        UnknownDreamError: Neither a folder nor a registered id.
        BundleError: A run's folder in which no bundle has been fitted yet.
    """
    path = registry.folder_of(id_or_path)
    if path is not None:
        if (path / CONFIG_FILE).exists():
            return path, {}
        if (path / "bundle" / CONFIG_FILE).exists():
            return path / "bundle", {}
        if (path / "episodes").is_dir():
            raise BundleError(
                f"{path} holds episodes and no bundle yet. `dreamenv train --out {path}` fits one to them"
            )
        return path, {}
    if isinstance(id_or_path, Path) or os.sep in str(id_or_path):
        raise UnknownDreamError(f"{id_or_path}: no such folder; expected a bundle's folder or a registered id")
    entry = registry.find(str(id_or_path))
    return entry.checkpoint, {str(name): value for name, value in entry.section.sha256.items()}
