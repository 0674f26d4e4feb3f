"""Rearranged weights are made once for a model that stays as it is, and go when it goes."""

from __future__ import annotations

import gc
import weakref

import torch
from torch import Tensor, nn

from dreamenv.memory.weights_watch import SharedWeights


def doubled(model: nn.Linear, dtype: torch.dtype) -> Tensor:
    return (2 * model.weight.detach()).to(dtype)


def test_they_are_made_once_for_an_unchanged_model_and_each_precision() -> None:
    shared, model = SharedWeights(doubled), nn.Linear(2, 3)
    first = shared.of(model, torch.float32)
    assert shared.of(model, torch.float32) is first
    assert shared.of(model, torch.bfloat16).dtype == torch.bfloat16
    assert shared.of(model, torch.float32) is first
    model.weight.data.add_(1.0)  # which torch does not record
    assert torch.equal(shared.of(model, torch.float32), 2 * model.weight)


def test_a_model_that_nobody_uses_is_not_kept() -> None:
    shared, model = SharedWeights(doubled), nn.Linear(2, 3)
    shared.of(model, torch.float32)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
