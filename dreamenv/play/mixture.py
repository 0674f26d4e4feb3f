"""What M expected of the present moment: the mixture that its latent was drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture for each latent dimension, in M's normalised units; joint ones repeat their weights.

    Attributes:
        weights: `[K, Z]` float32, summing to 1 over the K components.
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
def mixture_of(model: WorldModel, state: Any, temperature: float) -> Mixture | None:
    """The mixture behind the latent of a memory state of batch 1, None where the memory has no mixtures.

    Temperature divides the log weights and multiplies the variances (Ha & Eck 2017, eq. 8), as in `MDNRNN.imagine`.
    """
    memory = model.memory
    if not isinstance(memory, MDNRNN):
        return None
    hidden = state.hidden * state.dropout if state.dropout.shape[1] else state.hidden
    log_weights, means, log_stds = (part[0] for part in memory.mixture(hidden))
    parts = (
        torch.softmax(log_weights / temperature, dim=0).expand_as(means),
        means,
        log_stds.exp() * temperature**0.5,
        memory.normalise(state.latent)[0],
    )
    return Mixture(*(part.float().cpu().numpy() for part in parts))
