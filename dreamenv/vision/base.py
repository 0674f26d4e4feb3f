"""The interface of V and the identity V of vector observations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class Vision(nn.Module, ABC):
    """From observations to latents and back.

    Attributes:
        latent_size: Z.
        observation_shape: Shape of one observation, `(64, 64, 3)` for images or `(D,)` for vectors.
        is_image: Whether observations are uint8 pictures.
    """

    latent_size: int
    observation_shape: tuple[int, ...]
    is_image: bool

    @abstractmethod
    def encode(self, observation: Tensor) -> Tensor:
        """Mean latent `[B, Z]` float32 of observations `[B, *observation_shape]`, uint8 pictures or float32 vectors."""

    @abstractmethod
    def posterior(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each `[B, Z]`, of the latent given the observation."""

    @abstractmethod
    def decode(self, latent: Tensor) -> Tensor:
        """Observation `[B, *observation_shape]` of latents `[B, Z]`: float32, pictures in [0, 1]."""

    @abstractmethod
    def loss(self, observation: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars by name; `"loss"` is the one to minimise."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-ready keyword arguments that rebuild this model."""

    def decode_uint8(self, latent: Tensor) -> Tensor:
        """Pictures `[B, H, W, 3]` uint8 of latents `[B, Z]`."""
        return (self.decode(latent).clamp(0, 1) * 255).round().to(torch.uint8)
