"""A small MDN-RNN of fixed weights, its generators and its actions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.sequences import SequenceBatch
from tests.fakes import BOX, DISCRETE, draw_weights

SPACES = {"box": BOX, "discrete": DISCRETE}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(space: str = "box", *, latent_size: int = 3, scaled: bool = True, **options: Any) -> MDNRNN:
    memory = MDNRNN(latent_size, SPACES[space], **({"hidden_size": 8, "mixtures": 3} | options))
    draw_weights(memory, seeded(1))
    if scaled:
        memory.latent_mean.copy_(torch.linspace(-1, 2, latent_size))
        memory.latent_std.copy_(torch.linspace(0.5, 3, latent_size))
    return memory.eval()


def actions(space: str, *shape: int) -> Tensor:
    if space == "discrete":
        return torch.randint(1, 5, shape, generator=seeded(5))
    return torch.rand(*shape, 2, generator=seeded(5)) * 2 - torch.tensor([1.0, 0.0])


def batch(space: str = "box", rows: int = 4, steps: int = 6) -> SequenceBatch:
    """Sequences whose targets have nothing to do with their latents, so that no one can stand for the other."""
    generator = seeded(6)
    return SequenceBatch(
        latents=torch.randn(rows, steps + 1, 3, generator=generator),
        targets=torch.randn(rows, steps, 3, generator=generator),
        actions=actions(space, rows, steps),
        rewards=torch.randn(rows, steps, generator=generator),
        terminated=(torch.rand(rows, steps, generator=generator) < 0.2).float(),
        mask=torch.ones(rows, steps),
        latent_mask=torch.ones(rows, steps),
    )
