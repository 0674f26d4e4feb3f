"""Whether a model's weights are still those that something was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

ModelT = TypeVar("ModelT", bound=nn.Module)
FusedT = TypeVar("FusedT")

_version = attrgetter("_version")


class WeightsWatch:
    """Notices when any parameter or buffer of a model has been fitted, loaded, moved or replaced since it was made.

    Edits through `Tensor.data` are the exception: PyTorch does not record them.
    """

    def __init__(self, module: nn.Module) -> None:
        # The module itself is not kept: whoever keeps a watch under a model as weak key would keep that for ever
        places = [part for each in module.modules() for part in (each._parameters, each._buffers)]
        self._held = [(place, name, tensor) for place in places for name, tensor in place.items() if tensor is not None]
        self._tensors = [tensor for _, _, tensor in self._held]
        # Moving a parameter leaves its object and its version as they are
        self._addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._versions = list(map(_version, self._tensors))

    @property
    def fitted(self) -> bool:
        """Whether a tensor was written to: the part of `changed` that is cheap enough for every step."""
        return list(map(_version, self._tensors)) != self._versions

    @property
    def changed(self) -> bool:
        """Whether the model is another one."""
        return (
            self.fitted
            or any(place.get(name) is not tensor for place, name, tensor in self._held)
            or [tensor.data_ptr() for tensor in self._tensors] != self._addresses
        )


@dataclass
class _Kept(Generic[FusedT]):
    """What was made of a model, and the model's tensors as they were then."""

    watch: WeightsWatch
    tensors: list[Tensor]
    fused: dict[torch.dtype, FusedT]


class SharedWeights(Generic[ModelT, FusedT]):
    """Rearranged weights of models, made once for all steppers of a model that has not changed.

    Args:
        fuse: Makes them, those of products in a dtype. They are copies; nobody may write to them.
    """

    def __init__(self, fuse: Callable[[ModelT, torch.dtype], FusedT]) -> None:
        self._fuse = fuse
        self._kept: WeakKeyDictionary[ModelT, _Kept[FusedT]] = WeakKeyDictionary()

    def of(self, model: ModelT, dtype: torch.dtype) -> FusedT:
        """Those of `model` as it is now, edits through `Tensor.data` included."""
        kept = self._kept.get(model)
        # Made within inference mode they could not be used outside
        with torch.inference_mode(False), torch.no_grad():
            if kept is None or kept.watch.changed or not _same(kept.tensors, _tensors(model)):
                copies = [part.detach().clone() for part in _tensors(model)]
                kept = self._kept[model] = _Kept(WeightsWatch(model), copies, {})
            if dtype not in kept.fused:
                kept.fused[dtype] = self._fuse(model, dtype)
        return kept.fused[dtype]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def _same(before: list[Tensor], now: list[Tensor]) -> bool:
    return len(before) == len(now) and all(map(torch.equal, before, now))
