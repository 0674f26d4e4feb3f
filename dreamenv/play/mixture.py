"""What M expected of the present moment: the mixture from which its latent was drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.play.latents import start_latents
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture for each latent dimension, in standard deviations of the data around their mean.

    Attributes:
        weights: `[K, Z]` float32, of sum 1 over the K components.
        means, stds: `[K, Z]` float32.
        drawn: `[Z]` float32, the latent that came.
    """

    weights: NDArray[np.float32]
    means: NDArray[np.float32]
    stds: NDArray[np.float32]
    drawn: NDArray[np.float32]

    def to_array(self) -> NDArray[np.float32]:
        """`[3 K + 1, Z]`: weights, means, stds, and what was drawn."""
        return np.concatenate([self.weights, self.means, self.stds, self.drawn[None]]).astype(np.float32)


@torch.no_grad()
def mixture_of(
    model: WorldModel, before: Any, action: Any, latent: NDArray[np.float32], *, temperature: float
) -> Mixture | None:
    """The mixture of what follows `action` in the memory state `before` of batch 1, and the `latent` `[Z]` that came;
    None where the memory predicts no mixture."""
    memory = model.memory
    taken = torch.from_numpy(np.asarray(action)[None]).to(memory.device)
    found = memory.predicted_latent(before, taken, temperature=temperature)
    if found is None:
        return None
    middle, unit = start_latents(model).mean(0), memory.latent_std
    parts = (
        found.weights[0],
        (found.means[0] - middle) / unit,
        found.stds[0] / unit,
        (torch.from_numpy(latent).to(memory.device) - middle) / unit,
    )
    return Mixture(*(part.float().cpu().numpy() for part in parts))
