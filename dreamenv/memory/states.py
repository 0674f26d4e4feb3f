"""States of a memory, `NamedTuple`s of tensors with the batch first, and how their rows are chosen and joined."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError

StateT = TypeVar("StateT", bound="tuple[Tensor, ...]")


def select(state: StateT, index: Tensor) -> StateT:
    """Rows `index` (int or bool tensor) of a state."""
    return type(state)(*(part[index] for part in state))


def merge(state: StateT, index: Tensor, rows: StateT) -> StateT:
    """A copy of `state` with rows `index` replaced by `rows`."""
    parts = []
    for part, new in zip(state, rows, strict=True):
        copy = part.clone()
        copy[index] = new.to(copy.dtype)
        parts.append(copy)
    return type(state)(*parts)


def repeat(state: StateT, times: int) -> StateT:
    """Each row `times` times in a row: `[B, ...]` to `[B * times, ...]`."""
    return type(state)(*(part.repeat_interleave(times, dim=0) for part in state))


def flatten_state(state: StateT) -> Tensor:
    """A state as one vector a row, `[B, S]` float32: its fields side by side, each flattened behind the batch."""
    return torch.cat([part.reshape(len(part), math.prod(part.shape[1:])).float() for part in state], dim=1)


def unflatten_state(like: StateT, vectors: Tensor) -> StateT:
    """The inverse of `flatten_state`: `[B, S]` to a state whose fields have the shapes and types of those of `like`.

    Raises:
        ConfigurationError: Vectors of another length than that of a row of `like`.
    """
    sizes = [part[0].numel() for part in like]
    if vectors.ndim != 2 or vectors.shape[1] != sum(sizes):
        raise ConfigurationError(f"got states of shape {tuple(vectors.shape)}, expected (B, {sum(sizes)})")
    parts = vectors.split(sizes, dim=1)
    return type(like)(
        *(part.reshape(len(part), *own.shape[1:]).to(own.dtype) for part, own in zip(parts, like, strict=True))
    )
