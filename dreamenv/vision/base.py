"""The interface of V: from observations to embeddings, and from latents back to observations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError


class Vision(nn.Module, ABC):
    """From observations to embeddings, which M takes, and from latents back to observations.

    How a vision is fitted is not part of the interface; that is what a recipe is (`dreamenv.training.recipes`).

    Attributes:
        latent_size: Z, what `decode` takes.
        embedding_size: E, what `encode` gives; Z unless a subclass says otherwise.
        observation_shape: Shape of one observation, `(64, 64, 3)` for images or `(D,)` for vectors.
        is_image: Whether observations are uint8 pictures.
        can_decode: Whether there is a way back from latents to observations.
    """

    latent_size: int
    embedding_size: int
    observation_shape: tuple[int, ...]
    is_image: bool
    can_decode: ClassVar[bool] = True

    @property
    def draws(self) -> bool:
        """Whether a latent can be drawn as a picture."""
        return self.is_image and self.can_decode

    @abstractmethod
    def encode(self, observation: Tensor) -> Tensor:
        """Embedding `[B, E]` float32 (here the mean latent) of observations `[B, *observation_shape]`, uint8 pictures
        or float32 vectors."""

    def posterior(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each `[B, E]`, of the embedding given the observation; exact if not
        overridden."""
        mean = self.encode(observation)
        return mean, torch.zeros_like(mean)

    def loss(self, observation: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Scalars by name, of which `"loss"` is to be minimised, for recipes that fit vision by itself.

        Raises:
            ConfigurationError: This vision is not fitted, or together with M alone.
        """
        raise ConfigurationError(f"{type(self).__name__} is not fitted by itself")

    def decode(self, latent: Tensor) -> Tensor:
        """Observation `[B, *observation_shape]` of latents `[B, Z]`: float32, pictures in [0, 1].

        Raises:
            ConfigurationError: This vision does not decode (`can_decode`).
        """
        raise ConfigurationError(
            f"{type(self).__name__} does not decode: its dreams have no pictures. Use observation='features'."
        )

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """JSON-ready keyword arguments that rebuild this model."""

    def decode_uint8(self, latent: Tensor) -> Tensor:
        """Pictures `[B, H, W, 3]` uint8 of latents `[B, Z]`."""
        return (self.decode(latent).clamp(0, 1) * 255).round().to(torch.uint8)
