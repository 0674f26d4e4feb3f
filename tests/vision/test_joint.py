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
        assert size_seen(kind(4, 8, 128, standardised=True)) > 0.3
        assert size_seen(kind(4, 8, 128)) < 0.05


@pytest.mark.parametrize("kind", [SymlogMLP, VectorEncoder])
def test_a_config_that_does_not_say_is_that_of_an_older_model(
    kind: type[SymlogMLP] | type[VectorEncoder],
) -> None:
    for standardised in (False, True):
        config = kind(4, 8, 16, standardised=standardised).config()
        name = config.pop("kind")
        assert config.pop("standardised") is standardised
        made = VISIONS[name](**config, **({"standardised": True} if standardised else {}))
        assert made.config()["standardised"] is standardised
        assert any(part.endswith("0.0.bias") for part in dict(made.named_parameters())) is standardised


def test_numbers_that_vary_little_count_as_much_as_others() -> None:
    observations = torch.randn(512, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([100.0, 0.01, 0.0])
    observations += torch.tensor([5.0, 2.0, 7.0])
    with seeded_weights(0):
        vision = SymlogMLP(3, 4, 16, standardised=True)
    vision.standardise(observations.numpy())
    latent = torch.zeros(512, 4)
    changes = []
    for number in range(3):
        moved = observations.clone()
        moved[:, number] += 3 * observations[:, number].std()
        with torch.no_grad():
            change = vision.reconstruction_loss(latent, moved) - vision.reconstruction_loss(latent, observations)
        changes.append(float(change.mean()))
    assert changes[0] == pytest.approx(changes[1], rel=0.2)
    assert changes[0] > 0.3
    assert abs(changes[2]) < 1e-3
    assert float(vision.std[2]) == 1.0, "what never varies keeps its unit"
    assert vision.state_dict()["mean"].tolist() == pytest.approx(observations.mean(0).tolist())
    with torch.no_grad():
        squashed = vision.decoder(latent)[0]
        expected = squashed.sign() * squashed.abs().expm1() * vision.std + vision.mean
        torch.testing.assert_close(vision.decode(latent)[0], expected)
