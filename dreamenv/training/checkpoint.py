"""Checkpoints of a module and its Adam state: safetensors, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.files import write_bytes


def save_tensors(file: Path, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
    """Write `tensors` and the JSON-ready `record` to `file` atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # save_file leaves files that their owner alone can read
    write_bytes(file, save(contiguous, metadata={"record": json.dumps(record)}))


def load_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_tensors` wrote.

    Raises:
        BundleError: The file is missing or not whole.
    """
    try:
        with safe_open(file, "pt") as handle:
            record = json.loads((handle.metadata() or {})["record"])
        return load_file(file), record
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise BundleError(
            f"{file}: not a checkpoint of dreamenv ({error}); delete it to start this stage anew"
        ) from error


def save_training(
    file: Path, module: nn.Module, optimiser: torch.optim.Adam, best: dict[str, Tensor], record: dict[str, Any]
) -> None:
    """Checkpoint of a training run: weights, Adam's moments, the best weights so far, and `record`."""
    tensors = training_tensors(module, optimiser) | {f"best.{name}": tensor for name, tensor in best.items()}
    save_tensors(file, tensors, record)


def training_tensors(module: nn.Module, optimiser: torch.optim.Adam) -> dict[str, Tensor]:
    """Weights and Adam's moments by name."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
    return tensors


def restore_training(tensors: dict[str, Tensor], module: nn.Module, optimiser: torch.optim.Adam) -> None:
    """The inverse of `training_tensors`, in place; other names are passed over."""
    module.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
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
        BundleError: The file is not a whole checkpoint.
    """
    tensors, record = load_tensors(file)
    for key, value in json.loads(json.dumps(settings)).items():
        found = record["settings"].get(key, value)  # a setting of a later version is missing in an older checkpoint
        if found != value:
            raise ConfigurationError(
                f"{file} was written with {key}={found!r}, this run has {key}={value!r}. "
                "Take another folder, or the same settings to continue."
            )
    restore_training(tensors, module, optimiser)
    return {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}, record
