"""Latents of a model's start states: how they are spread, and what each number changes in the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamenv.world_model import WorldModel

# Numbers of every latent that are decoded to see what it changes
_MOMENTS = 4


@torch.no_grad()
def start_latents(model: WorldModel) -> Tensor:
    """`[N, Z]`, latents of the start states: of those in mid-episode where there are any, whose spread is that of the
    data, else of first observations."""
    starts, memory = model.starts, model.memory
    if starts.replay:
        return memory.latent(memory.state_from_tensors(starts.replay)).float()
    return memory.latent(memory.initial(starts.first, noise=torch.Generator(memory.device).manual_seed(0))).float()


@torch.no_grad()
def order_of_effect(model: WorldModel) -> list[int]:
    """Latent dimensions by how much they change the picture, those that change it most first.

    A dimension's effect is the mean absolute difference of the pictures that V decodes one standard deviation above and
    below a moment's latent, over a few moments. Of a model with pictures only.
    """
    latents = start_latents(model)
    moments = latents[torch.linspace(0, len(latents) - 1, _MOMENTS).long()]
    deviation = latents.std(0, correction=0)
    effects = []
    for dimension in range(latents.shape[1]):
        above, below = moments.clone(), moments.clone()
        above[:, dimension] += deviation[dimension]
        below[:, dimension] -= deviation[dimension]
        pictures = model.vision.decode_uint8(torch.cat([above, below])).float()
        effects.append((pictures[:_MOMENTS] - pictures[_MOMENTS:]).abs().mean())
    return torch.stack(effects).argsort(descending=True, stable=True).tolist()
