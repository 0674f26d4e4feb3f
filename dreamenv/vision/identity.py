"""Vision of environments whose observations are vectors already."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dreamenv.vision.base import Vision


class IdentityVision(Vision):
    """V of vector observations: the latent is the observation itself, nothing is learned."""

    is_image = False

    def __init__(self, latent_size: int) -> None:
        super().__init__()
        self.embedding_size = self.latent_size = latent_size
        self.observation_shape = (latent_size,)

    def encode(self, observation: Tensor) -> Tensor:
        return observation.float()

    def decode(self, latent: Tensor) -> Tensor:
        return latent

    def config(self) -> dict[str, Any]:
        return {"kind": "identity", "latent_size": self.latent_size}
