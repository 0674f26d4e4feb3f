"""The identity V of vector observations."""

from __future__ import annotations

import pytest
import torch

from dreamenv.errors import ConfigurationError
from dreamenv.vision.identity import IdentityVision


def test_it_passes_vectors_through() -> None:
    vision = IdentityVision(3)
    seen = torch.tensor([[1.0, -2.0, 1e6]], dtype=torch.float64)
    assert (vision.latent_size, vision.observation_shape, vision.is_image) == (3, (3,), False)
    latent = vision.encode(seen)
    assert latent.dtype == torch.float32
    assert torch.equal(latent, seen.float())
    assert torch.equal(vision.decode(latent), latent)
    mean, std = vision.posterior(seen)
    assert torch.equal(mean, latent)
    assert torch.equal(std, torch.zeros(1, 3))


def test_there_is_nothing_to_learn() -> None:
    vision = IdentityVision(3)
    assert not list(vision.parameters())
    assert not vision.state_dict()
    with pytest.raises(ConfigurationError, match="IdentityVision is not fitted by itself"):
        vision.loss(torch.ones(2, 3), generator=torch.Generator())
    config = vision.config()
    assert config.pop("kind") == "identity"
    assert IdentityVision(**config).latent_size == 3
