"""Optimiser steps that are taken again and again, on a GPU as one recorded graph of kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamenv.noise.base import mixed_seed, step_generator
from dreamenv.training.fit import Losses, Scalars, not_finite, training_step

Tensors = tuple[Tensor, ...]
# Losses by name, and what else the caller wants to have of them, from inputs and a generator
StepLosses = Callable[[Tensors, torch.Generator], tuple[Losses, Tensors]]
# So many steps show every library what it needs before the graph is recorded
_WARM_UP = 3


class RepeatedStep:
    """An optimiser step of losses that depend on inputs of the same shapes, a seed and a number each time.

    On the CPU it is `training_step`. A recurrent model's step is thousands of small kernels, and on a GPU the launching
    of them takes longer than the kernels do; so there the first step of a shape is recorded as a CUDA graph, in
    float32, and replayed from then on. What `losses` does must then be the same kernels each time: it may not look at
    numbers on the GPU to decide what to do.

    Args:
        module: What is trained.
        losses: Gives `"loss"` and other losses, and tensors that are of use to the caller.
        learning_rate: Adam's.
        device: Where the module is.
        clip: Largest gradient norm.
        checkpoint: File that errors name as the last good one.

    Attributes:
        optimiser: Adam over the module's parameters.
        records: Whether steps in float32 are recorded and replayed.
    """

    def __init__(
        self,
        module: nn.Module,
        losses: StepLosses,
        *,
        learning_rate: float,
        device: torch.device,
        clip: float,
        checkpoint: Path,
    ) -> None:
        self._module, self._losses, self._device = module, losses, device
        self._clip, self._checkpoint = clip, checkpoint
        self.records = device.type == "cuda"
        self.optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate, capturable=self.records)
        self._recorded: dict[Any, _Recorded] = {}

    def __call__(
        self, inputs: Tensors, *, seed: int, step: int, dtype: torch.dtype = torch.float32
    ) -> tuple[Scalars, Tensors]:
        """Take the step; returns the losses with the gradient's norm, and the other tensors, which the next step of
        the same shapes may overwrite.

        Args:
            inputs: Of the losses, on any device.
            seed, step: What the generator follows from.
            dtype: bfloat16 is autocast, and never recorded.

        Raises:
            NonFiniteError: A loss or gradient is not finite.
        """
        inputs = tuple(part.to(self._device, non_blocking=True) for part in inputs)
        if self.records and dtype == torch.float32:
            shapes = tuple((part.shape, part.dtype) for part in inputs)
            if shapes not in self._recorded:
                self._recorded[shapes] = _Recorded(self._module, self._losses, self.optimiser, self._clip, inputs)
            scalars = self._recorded[shapes](inputs, seed, step)
            bad = [name for name, value in scalars.items() if not math.isfinite(value)]
            if bad:
                raise not_finite(", ".join(bad), step, self._checkpoint)
            return scalars, self._recorded[shapes].others
        others: list[Tensors] = []

        def losses(number: int) -> Losses:
            found, more = self._losses(inputs, step_generator(seed, number, self._device))
            others[:] = [more]
            return found

        scalars = training_step(
            self._module, losses, self.optimiser, step, self._device, dtype, self._clip, self._checkpoint
        )
        return scalars, others[0]


class _Recorded:
    """A step as a CUDA graph, with memory of its own for inputs and results."""

    def __init__(
        self, module: nn.Module, losses: StepLosses, optimiser: torch.optim.Adam, clip: float, inputs: Tensors
    ) -> None:
        device = inputs[0].device
        self._inputs = tuple(part.clone() for part in inputs)
        self._generator = torch.Generator(device)
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(self._generator)

        def whole() -> tuple[Losses, Tensors]:
            found, others = losses(self._inputs, self._generator)
            found["loss"].backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), clip)
            optimiser.step()
            return {k: v.detach() for k, v in found.items()} | {"gradient_norm": norm}, others

        fresh = not optimiser.state
        before = [tensor.detach().clone() for tensor in _kept(module, optimiser)]
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                optimiser.zero_grad(set_to_none=True)
                whole()
        torch.cuda.current_stream(device).wait_stream(stream)
        optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(self._graph):
            self._found, others = whole()
        self.others = tuple(part.detach() for part in others)
        self._names = list(self._found)
        # Neither warming up nor recording is a step of the training
        with torch.no_grad():
            for tensor, value in zip(_kept(module, optimiser), before, strict=False):
                tensor.copy_(value)
            if fresh:
                for state in optimiser.state.values():
                    for tensor in state.values():
                        tensor.zero_()

    def __call__(self, inputs: Tensors, seed: int, step: int) -> Scalars:
        for kept, given in zip(self._inputs, inputs, strict=True):
            kept.copy_(given)
        self._generator.manual_seed(mixed_seed(seed, step))
        self._graph.replay()
        numbers = torch.stack([self._found[name].float() for name in self._names]).tolist()
        return dict(zip(self._names, numbers, strict=True))


def _kept(module: nn.Module, optimiser: torch.optim.Adam) -> list[Tensor]:
    """All that a step changes: the module's tensors, then the optimiser's."""
    own = list(module.state_dict(keep_vars=True).values())
    return own + [tensor for state in optimiser.state.values() for tensor in state.values()]
