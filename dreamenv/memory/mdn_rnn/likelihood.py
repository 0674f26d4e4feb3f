"""The likelihood of Gaussian mixtures, of each dimension or joint."""

from __future__ import annotations

import math

from torch import Tensor

# Log standard deviations of components are kept within, in normalised latent units
LOG_STD_RANGE = (-7.0, 3.0)
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def mixture_nll(target: Tensor, log_weights: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Negative log-likelihood in nats of `target` `[..., 1, Z]` under mixtures `[..., K, Z]`: `[..., Z]`.

    With joint weights `[..., K, 1]` it is that of the whole latent: `[..., 1]`.
    """
    standard = (target - mean) * (-log_std).exp()
    log_density = -0.5 * standard.square() - log_std - _HALF_LOG_2PI
    if log_weights.shape[-1] == 1:
        log_density = log_density.sum(-1, keepdim=True)
    # dim -2 is the component
    return log_weights.logsumexp(-2) - (log_weights + log_density).logsumexp(-2)
