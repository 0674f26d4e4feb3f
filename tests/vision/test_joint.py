"""Encoders that are fitted together with M."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dreamenv.noise.base import seeded_weights
from dreamenv.vision.base import Vision
from dreamenv.vision.encoder import VectorEncoder
from dreamenv.vision.joint import SymlogMLP
from dreamenv.vision.kinds import VISIONS


def distance(first: Tensor, second: Tensor) -> float:
    return float((first - second).square().mean().sqrt())


def size_seen(vision: Vision) -> float:
    """How far x and 2x are apart, in units of how far two observations are."""
    observations = 0.1 * torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        small, large = vision.encode(observations), vision.encode(2 * observations)
    return distance(small, large) / distance(small[:128], small[128:])


@pytest.mark.parametrize("kind", [SymlogMLP, VectorEncoder])
def test_the_size_of_an_observation_is_seen(kind: type[SymlogMLP] | type[VectorEncoder]) -> None:
    # A pole that leans by 0.1 and one that leans by 0.2 have another value, and normalised layers are blind to it
    with seeded_weights(0):
        assert size_seen(kind(4, 8, 128, bias=True)) > 0.3
        assert size_seen(kind(4, 8, 128)) < 0.05


@pytest.mark.parametrize("kind", [SymlogMLP, VectorEncoder])
def test_a_config_without_the_bias_is_that_of_a_model_without_one(
    kind: type[SymlogMLP] | type[VectorEncoder],
) -> None:
    for bias in (False, True):
        config = kind(4, 8, 16, bias=bias).config()
        name = config.pop("kind")
        assert config.pop("bias") is bias
        made = VISIONS[name](**config, **({"bias": True} if bias else {}))
        assert made.config()["bias"] is bias
        assert any(part.endswith("0.0.bias") for part in dict(made.named_parameters())) is bias
