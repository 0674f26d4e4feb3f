"""Every vision keeps the contract that the package ships as a check, and the check notices those that do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dreamenv.testing import check_vision
from dreamenv.testing.fakes import small_vae
from dreamenv.vision.base import Vision
from dreamenv.vision.encoder import PictureEncoder, VectorEncoder
from dreamenv.vision.identity import IdentityVision

VECTORS = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))


def test_shipped_visions() -> None:
    pictures = torch.randint(256, (3, 64, 64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    check_vision(small_vae(4).eval(), pictures)
    check_vision(IdentityVision(2).eval(), VECTORS)
    check_vision(VectorEncoder(2, 5, 4).eval(), VECTORS)
    check_vision(PictureEncoder(5, 1).eval(), pictures)


class Encoder(Vision):
    """Encodes and does not decode."""

    is_image = False
    can_decode = False
    embedding_size, latent_size, observation_shape = 4, 6, (2,)

    def encode(self, observation: Tensor) -> Tensor:
        return torch.cat([observation, observation.square()], 1)

    def config(self) -> dict[str, Any]:
        return {"kind": "encoder"}


class Batched(Encoder):
    def encode(self, observation: Tensor) -> Tensor:
        return super().encode(observation - observation.mean(0))


class Wide(Encoder):
    embedding_size = 5


class Random(Encoder):
    def encode(self, observation: Tensor) -> Tensor:
        return super().encode(observation) + torch.randn(len(observation), 4)


def test_a_vision_need_not_decode() -> None:
    check_vision(Encoder().eval(), VECTORS)


@pytest.mark.parametrize(
    ("vision", "message"),
    [(Batched, "depends on its neighbours"), (Wide, r"encode gave \(3, 4\)"), (Random, "is not the same twice")],
)
def test_the_check_notices(vision: type[Encoder], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_vision(vision().eval(), VECTORS)
