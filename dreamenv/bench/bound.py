"""What the machine allows: the multiplications inside a model, measured alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dreamenv.memory.base import MemoryModel

# (rows for each dream or picture, inner, outer): N of them are one product [rows * N, inner] x [inner, outer].
Product = tuple[int, int, int]
# Runs once and returns how many steps (or pictures) that was worth.
Work = Callable[[], float]

# The large convolution: 16 pictures of 32 x 32 with 128 channels, 3 x 3 kernels.
_BATCH, _CHANNELS, _SIDE = 16, 128, 32


def memory_products(memory: nn.Module) -> list[Product]:
    """The products of one step of a memory model as it is fitted: one a weight matrix `[outer, inner]`.

    Of matrices `[E, inner, outer]` of E members, each dream is multiplied with one; their biases are `[E, 1, outer]`.
    """
    return _products(memory.parameters())


def dreamed_products(memory: MemoryModel[Any], action_space: gym.Space[Any]) -> list[Product]:
    """The products of one dreamed step: as `memory_products`, without those of networks that read observations only.

    A memory that carries no gradients does not tell which these are; of it all count.
    """
    # A model may be frozen, and a space has a generator
    traced, actions = copy.deepcopy(memory).requires_grad_(), copy.deepcopy(action_space)
    actions.seed(0)
    action = torch.from_numpy(np.asarray(actions.sample())[None]).to(memory.device)
    noise = torch.Generator(memory.device).manual_seed(0)
    parameters = list(traced.parameters())
    with torch.inference_mode(False), torch.enable_grad():
        begun = traced.initial(torch.zeros(1, traced.embedding_size, device=memory.device), noise=noise)
        state = type(begun)(*(part.detach() for part in begun))
        after, prediction = traced.imagine(state, action, noise=noise)
        total = prediction.reward.sum() + prediction.termination_probability.sum() + traced.latent(after).sum()
        if not parameters or not total.requires_grad:
            return _products(parameters)
        gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return _products(part for part, gradient in zip(parameters, gradients, strict=True) if gradient is not None)


def _products(parameters: Iterable[Tensor]) -> list[Product]:
    shapes = [tuple(part.shape) for part in parameters]
    members = [(1, shape[1], shape[2]) for shape in shapes if len(shape) == 3 and shape[1] > 1]
    return [(1, shape[1], shape[0]) for shape in shapes if len(shape) == 2] + members


def layer_products(call: Callable[[], Any], module: nn.Module) -> list[Product]:
    """The products of the linear and (transposed) convolution layers that `call`, of one picture, runs in `module`."""
    found: list[Product] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            found.append((1, layer.in_features, layer.out_features))
        elif isinstance(layer, nn.Conv2d):
            found.append((output[0, 0].numel(), layer.weight[0].numel(), layer.out_channels))
        elif isinstance(layer, nn.ConvTranspose2d):
            found.append((inputs[0][0, 0].numel(), layer.in_channels, layer.weight[0].numel()))

    hooks = [part.register_forward_hook(note) for part in module.modules() if not list(part.children())]
    try:
        call()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def product_bound(products: Sequence[Product], rows: int, device: str) -> Work | None:
    """Runs the products of `rows` rows and nothing else, and returns `rows`; None where there are no products."""
    if not products:
        return None
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    operands = [
        (draw(each * rows, inner), draw(inner, outer), torch.empty(each * rows, outer, device=device))
        for each, inner, outer in products
    ]

    def work() -> float:
        with torch.inference_mode():
            for left, right, out in operands:
                torch.mm(left, right, out=out)
        return rows

    return work


def arithmetic_bound(products: Sequence[Product], device: str) -> Work:
    """Runs one large convolution, and returns how many rows' multiplications that is.

    Convolutions have faster kernels than `torch.mm` on some processors, so products would be no bound for them.
    """
    each = sum(rows * inner * outer for rows, inner, outer in products)
    generator = torch.Generator(device).manual_seed(0)
    shapes = ((_BATCH, _CHANNELS, _SIDE, _SIDE), (_CHANNELS, _CHANNELS, 3, 3))
    pictures, kernels = (
        torch.rand(shape, generator=generator, device=device).to(memory_format=torch.channels_last) for shape in shapes
    )

    def work() -> float:
        with torch.inference_mode():
            outputs = functional.conv2d(pictures, kernels)
        return outputs.numel() * kernels[0].numel() / each

    return work
