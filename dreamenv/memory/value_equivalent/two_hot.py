"""Values and rewards as chances of whole numbers behind an invertible transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dreamenv.errors import ConfigurationError

# Keeps the transform's slope above 0, so that it can be inverted
_SLOPE = 1e-3


def squashed(values: Tensor) -> Tensor:
    """h(x) = sign(x) (√(|x| + 1) - 1) + εx (Pohlen et al. 2018, "Observe and look further", proposition A.2)."""
    return values.sign() * ((values.abs() + 1).sqrt() - 1) + _SLOPE * values


def unsquashed(squashes: Tensor) -> Tensor:
    """The inverse of `squashed`."""
    # Near 0 the difference of two large numbers would be lost in float32
    wide = squashes.double()
    root = ((1 + 4 * _SLOPE * (wide.abs() + 1 + _SLOPE)).sqrt() - 1) / (2 * _SLOPE)
    return (wide.sign() * (root.square() - 1)).to(squashes.dtype)


class TwoHotHead(nn.Module):
    """A number from features `[..., F]`, as chances of the whole numbers from -support to support behind h.

    A target is spread over its two neighbours, and the prediction is h⁻¹ of the mean (Schrittwieser et al. 2020,
    appendix F).

    Args:
        features: F.
        width: Units of the hidden layer.
        support: The largest |h(x)|.

    Raises:
        ConfigurationError: A number out of range.
    """

    places: Tensor

    def __init__(self, features: int, *, width: int, support: int) -> None:
        super().__init__()
        if min(width, support) < 1:
            raise ConfigurationError(f"width and support must be at least 1, got {width} and {support}")
        last = nn.Linear(width, 2 * support + 1)
        # The first prediction is 0 whatever the features
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(features, width), nn.SiLU(), last)
        self.register_buffer("places", torch.arange(-support, support + 1).float(), persistent=False)

    @property
    def largest(self) -> float:
        """The largest number that can be said."""
        return float(unsquashed(self.places[-1]))

    def forward(self, features: Tensor) -> Tensor:
        """`[...]`, the number."""
        chances = self.network(features).float().softmax(-1)
        return unsquashed(chances @ self.places)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """`[...]`, cross-entropy in nats."""
        return -(self.two_hot(target) * self.network(features).float().log_softmax(-1)).sum(-1)

    def two_hot(self, target: Tensor) -> Tensor:
        """`[..., 2 · support + 1]`, a target's shares of its two neighbours."""
        support = (len(self.places) - 1) // 2
        place = squashed(target).clamp(-support, support) + support
        below = place.floor().clamp(max=2 * support - 1)
        share = (place - below).unsqueeze(-1)
        index = below.long()
        count = len(self.places)
        return functional.one_hot(index, count) * (1 - share) + functional.one_hot(index + 1, count) * share
