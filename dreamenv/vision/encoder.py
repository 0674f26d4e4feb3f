"""Encoders without a way back, for memories that predict rewards, values and policies and no observations."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from dreamenv.vision.base import Vision
from dreamenv.vision.joint import ConvAutoencoder, SymlogMLP


class VectorEncoder(Vision):
    """Two hidden layers over squashed vectors: the encoder of `SymlogMLP` by itself.

    Args:
        size: D, numbers of an observation.
        latent_size: Z of M, which nobody decodes.
        width: Units of the hidden layers, and E.
        standardised: As for `SymlogMLP`.

    Raises:
        ConfigurationError: A number out of range.
    """

    is_image = False
    can_decode = False

    def __init__(self, size: int, latent_size: int, width: int = 128, *, standardised: bool = False) -> None:
        super().__init__()
        whole = SymlogMLP(size, latent_size, width, standardised=standardised)
        self.latent_size, self.embedding_size, self.observation_shape = latent_size, width, (size,)
        del whole.decoder
        self.inner = whole

    def standardise(self, observations: NDArray[Any]) -> None:
        """As of `SymlogMLP`."""
        self.inner.standardise(observations)

    def encode(self, observation: Tensor) -> Tensor:
        return self.inner.encode(observation)

    def config(self) -> dict[str, Any]:
        return self.inner.config() | {"kind": "vector_encoder"}


class PictureEncoder(Vision):
    """Four convolutions over pictures of 64 × 64: the encoder of `ConvAutoencoder` by itself.

    Args:
        latent_size: Z of M, which nobody decodes.
        depth: Channels of the first layer; they double with each.

    Raises:
        ConfigurationError: A number out of range.
    """

    observation_shape = ConvAutoencoder.observation_shape
    is_image = True
    can_decode = False

    def __init__(self, latent_size: int, depth: int = 16) -> None:
        super().__init__()
        whole = ConvAutoencoder(latent_size, depth)
        self.latent_size, self.embedding_size = latent_size, whole.embedding_size
        del whole.decoder, whole.begin
        self.inner = whole

    def encode(self, observation: Tensor) -> Tensor:
        return self.inner.encode(observation)

    def config(self) -> dict[str, Any]:
        return self.inner.config() | {"kind": "picture_encoder"}
