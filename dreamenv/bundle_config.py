"""config.json of a bundle: what it must hold, the sums it carries, and spaces as JSON."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pydantic import Field, NonNegativeFloat, PositiveInt, TypeAdapter, ValidationError

from dreamenv.errors import BundleError, ConfigurationError, did_you_mean
from dreamenv.files import parse_json
from dreamenv.schema import Sha256, Strict, checked
from dreamenv.tensor_files import TensorSection, check_sums, read_whole

FORMAT_VERSION = 2
CONFIG_FILE, WEIGHTS_FILE, STARTS_FILE = "config.json", "model.safetensors", "starts.safetensors"
_SUM = "sha256"
_MOST_CONFIG = 64 << 20


class DiscreteSection(Strict):
    """A Discrete space."""

    kind: Literal["discrete"]
    n: PositiveInt
    start: int


class BoxSection(Strict):
    """A Box space; bounds are as deeply nested as its shape."""

    kind: Literal["box"]
    low: list[Any]
    high: list[Any]
    dtype: Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]


SpaceSection = Annotated[DiscreteSection | BoxSection, Field(discriminator="kind")]
_SPACES: TypeAdapter[Any] = TypeAdapter(SpaceSection)


class FileSection(Strict):
    """What a file of the bundle must be: its sum and its tensors."""

    sha256: Sha256
    tensors: dict[str, TensorSection]


class ConfigSection(Strict):
    """config.json. `real`, `vision` and `memory` are checked by what is made of them, `provenance` is free."""

    format_version: Literal[2]
    real: dict[str, Any]
    action_space: dict[str, Any]
    vision: dict[str, Any]
    memory: dict[str, Any]
    max_episode_steps: PositiveInt
    temperature: NonNegativeFloat = Field(allow_inf_nan=False)
    provenance: dict[str, Any]
    files: dict[Literal["model.safetensors", "starts.safetensors"], FileSection]
    sha256: Sha256


def sealed_config(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with the sum of all its other keys."""
    return {**config, _SUM: _sum_of(config)}


def read_config(path: Path, expected: dict[str, str] | None = None) -> dict[str, Any]:
    """config.json of the bundle at `path`: its sums, version, keys and types checked.

    Raises:
        BundleError: The file is missing, was changed since it was saved, or does not fit.
    """
    file = path / CONFIG_FILE
    data = read_whole(file, most=_MOST_CONFIG)
    check_sums(file, data, {"registry.yaml": (expected or {}).get(CONFIG_FILE)})
    try:
        config = parse_json(data)
    except ValueError as error:
        raise BundleError(f"{file}: not JSON (cut short?): {error}") from error
    if not isinstance(config, dict):
        raise BundleError(f"{file}: found {type(config).__name__}, expected an object")
    version = config.get("format_version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise BundleError(
            f"{file}: format_version {version!r}, this dreamenv reads {FORMAT_VERSION}. Upgrade dreamenv, or save the "
            "model again with the one that wrote it."
        )
    checked(ConfigSection, config, file)
    rest = {key: value for key, value in config.items() if key != _SUM}
    if _sum_of(rest) != config[_SUM]:
        raise BundleError(
            f"{file}: its keys have sha256 {_sum_of(rest)}, it says {config[_SUM]}: it has changed since it was saved. "
            "Load and save the model to change it, or take another copy."
        )
    missing = sorted({WEIGHTS_FILE, STARTS_FILE} - config["files"].keys())
    if missing:
        raise BundleError(f"{file}: files.{missing[0]}: missing key")
    return config


def _sum_of(config: dict[str, Any]) -> str:
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def space_to_json(space: gym.Space[Any]) -> dict[str, Any]:
    """A Discrete or Box space as JSON.

    Raises:
        ConfigurationError: Another space.
    """
    if isinstance(space, spaces.Discrete):
        return {"kind": "discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.Box):
        return {"kind": "box", "low": space.low.tolist(), "high": space.high.tolist(), "dtype": str(space.dtype)}
    raise ConfigurationError(f"only Discrete and Box action spaces can be saved, got {space}")


def space_from_json(data: Any, where: str = "action_space") -> gym.Space[Any]:
    """The inverse of `space_to_json`.

    Args:
        data: What was read.
        where: What it is, for messages.

    Raises:
        BundleError: It is no such space.
    """
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind not in ("box", "discrete"):
        raise BundleError(f"{where}.kind is {kind!r}; expected 'box' or 'discrete'")
    try:
        section = _SPACES.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in item["loc"][1:])
        if item["type"] == "extra_forbidden":
            known = DiscreteSection.model_fields if kind == "discrete" else BoxSection.model_fields
            raise BundleError(f"{where}.{key}: unknown key. {did_you_mean(key, known)}") from error
        raise BundleError(f"{where}.{key}: {item['msg']}") from error
    if isinstance(section, DiscreteSection):
        try:
            return spaces.Discrete(section.n, start=section.start)
        except (OverflowError, ValueError) as error:
            raise BundleError(f"{where}: {error}") from error
    return _box(section, where)


def _box(section: BoxSection, where: str) -> spaces.Box:
    dtype = np.dtype(section.dtype)
    try:
        low, high = (np.array(side, dtype) for side in (section.low, section.high))
    except (TypeError, ValueError, OverflowError) as error:
        raise BundleError(f"{where}: its bounds are no array of {section.dtype}: {error}") from error
    if low.shape != high.shape or low.size == 0 or not bool((low <= high).all()):
        raise BundleError(
            f"{where}: found bounds of shapes {low.shape} and {high.shape}; expected two alike, the lower one nowhere "
            "above the upper one"
        )
    return spaces.Box(low, high, dtype=dtype.type)
