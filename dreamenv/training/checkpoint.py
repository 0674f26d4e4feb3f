"""Checkpoints of a module and its Adam state: safetensors, written whole or not at all, with a sum of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.files import parse_json
from dreamenv.options import what_differs
from dreamenv.tensor_files import read_sealed, write_sealed

_ANEW = "delete it to start this stage anew"


def save_tensors(file: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write `tensors` and the JSON-ready `record` to `file` atomically."""
    write_sealed(file, tensors, {"record": json.dumps(record)})


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        BundleError: The file is missing, not whole, or has changed since it was written.
    """
    try:
        tensors, metadata = read_sealed(file)
        record = parse_json(metadata["record"])
    except (BundleError, KeyError, ValueError) as error:
        raise BundleError(f"{file}: not a checkpoint of dreamenv ({error}); {_ANEW}") from error
    if not isinstance(record, dict):
        raise BundleError(f"{file}: record: found {type(record).__name__}, expected an object; {_ANEW}")
    return tensors, record


def save_training(
    file: Path, module: nn.Module, optimiser: torch.optim.Adam, best: dict[str, Tensor], record: dict[str, Any]
) -> None:
    """Checkpoint of a training run: weights, Adam's moments, the best weights so far, and `record`."""
    tensors = training_tensors(module, optimiser) | {f"best.{name}": tensor for name, tensor in best.items()}
    save_tensors(file, tensors, record)


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those tensors whose names begin with `prefix`, by what follows it."""
    return {name.removeprefix(prefix): part for name, part in tensors.items() if name.startswith(prefix)}


def training_tensors(module: nn.Module, optimiser: torch.optim.Adam) -> dict[str, Tensor]:
    """Weights and Adam's moments by name."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
    return tensors


def restore_training(tensors: dict[str, Tensor], module: nn.Module, optimiser: torch.optim.Adam) -> None:
    """The inverse of `training_tensors`, in place; other names are passed over."""
    module.load_state_dict(below("model.", tensors))
    state = optimiser.state_dict()
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, part = name.split(".", 2)
            state["state"].setdefault(int(index), {})[part] = tensor
    optimiser.load_state_dict(state)


def load_training(
    file: Path, module: nn.Module, optimiser: torch.optim.Adam, settings: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Restore `module` and `optimiser` from `file`; returns the best weights and the record.

    Raises:
        ConfigurationError: The checkpoint was written by a run with other settings.
        BundleError: The file is not a whole checkpoint of this module.
    """
    tensors, record = load_tensors(file)
    if not isinstance(record.get("settings"), dict):
        raise BundleError(f"{file}: record.settings: found none, expected an object; {_ANEW}")
    for key, value in json.loads(json.dumps(settings)).items():
        found = record["settings"].get(key, value)  # a setting of a later version is missing in an older checkpoint
        if found != value:
            before, now = what_differs(found, value)
            raise ConfigurationError(
                f"{file} was written with {key}={before!r}, this run has {key}={now!r}. "
                "Take another folder, or the same settings to continue."
            )
    try:
        restore_training(tensors, module, optimiser)
    except (RuntimeError, ValueError, KeyError) as error:
        raise BundleError(f"{file}: its tensors are not those of this model ({error}); {_ANEW}") from error
    return below("best.", tensors), record
