"""The world model behind an environment: an object, an id or a folder, kept for the next environment that names it."""

from __future__ import annotations

import copy
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from dreamenv.bundle import resolve_bundle
from dreamenv.errors import ConfigurationError
from dreamenv.world_model import WorldModel

_CACHE_SIZE = 4
_cache: OrderedDict[tuple[Any, ...], WorldModel] = OrderedDict()
_lock = threading.Lock()


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


# A fork while another thread of the parent holds it would leave the child's locked for ever
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def open_world_model(
    world_model: WorldModel | str | Path,
    *,
    checkpoint: str | Path | None = None,
    device: torch.device | str | None = None,
    termination: str | None = None,
) -> WorldModel:
    """The world model that an environment dreams with.

    Models named by id or folder are loaded once and shared by the environments of this process: do not train them.

    Args:
        world_model: The model, a registered id, or a bundle's folder.
        checkpoint: Folder of another bundle to use instead.
        device: Where to run; None is where a given model lies, and the CPU for one that is loaded.
        termination: "cut" or "sample" instead of the memory model's own.

    Raises:
        UnknownDreamError, BundleError: See `WorldModel.load`.
        ConfigurationError: What is no model and names none, a device that cannot be used, or a memory model that does
            not take `termination`.
    """
    source = checkpoint if checkpoint is not None else world_model
    if isinstance(source, WorldModel):
        model = source
        if device is not None and _device(device) != _device(model.device):
            model = copy.deepcopy(model).to(device)
    else:
        if not isinstance(source, (str, Path)):
            raise ConfigurationError(
                f"got {type(source).__name__}, expected a WorldModel, a registered id or a bundle's folder"
            )
        model = _load_cached(source, _device("cpu" if device is None else device))
    return model if termination is None else model.with_termination(termination)


def _device(device: torch.device | str) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ConfigurationError(f"device={device!r} is not known; expected 'cpu', 'cuda' or 'cuda:<index>'") from error
    return torch.device("cuda", 0) if found.type == "cuda" and found.index is None else found


def _load_cached(source: str | Path, device: torch.device) -> WorldModel:
    path, hashes = resolve_bundle(source)
    try:
        stamps = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in sorted(path.iterdir())]
    except OSError:
        return WorldModel.load(source, device=device)  # says what is missing
    key = (path.resolve(), tuple(stamps), tuple(sorted(hashes.items())), device)
    with _lock:
        if key not in _cache:
            _cache[key] = WorldModel.load(source, device=device)
        _cache.move_to_end(key)
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
        return _cache[key]
