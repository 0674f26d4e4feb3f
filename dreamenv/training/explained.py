"""How much of a quantity is predicted."""

from __future__ import annotations

from torch import Tensor


def explained(real: Tensor, predicted: Tensor) -> float:
    """R²: 1 minus the squared error over the variance; 1 is perfect, 0 no better than the mean.

    0 where `real` is constant: there is nothing to explain.
    """
    variance = float((real - real.mean()).square().mean())
    return 1 - float((real - predicted).square().mean()) / variance if variance > 1e-12 else 0.0
