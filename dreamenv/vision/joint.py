"""Encoders and decoders that are fitted together with M, which decodes more than the embedding: [h, z] of an RSSM."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.vision.base import Vision

# What varies less, varies by rounding
_LEAST_STD = 1e-6


class JointVision(Vision):
    """A vision whose decoder reads M's latents; recipes that fit V and M in one loss take such a one."""

    @abstractmethod
    def reconstruction_loss(self, latent: Tensor, observation: Tensor) -> Tensor:
        """`[N]`, how far what is decoded of latents `[N, Z]` is from observations `[N, *observation_shape]`: half the
        squared error, summed over the observation (the negative log-likelihood of unit variance, but for a
        constant)."""


class ConvAutoencoder(JointVision):
    """Four convolutions down to 4 × 4 and four back, for pictures of 64 × 64 (the networks of Ha & Schmidhuber 2018 and
    of Dreamer, with the normalised layers of Hafner et al. 2023).

    Args:
        latent_size: Z, what M has to decode.
        depth: Channels of the first layer; they double with each.

    Raises:
        ConfigurationError: A number out of range.
    """

    observation_shape = (64, 64, 3)
    is_image = True

    def __init__(self, latent_size: int, depth: int = 16) -> None:
        super().__init__()
        if min(latent_size, depth) < 1:
            raise ConfigurationError(f"latent_size and depth must be at least 1, got {latent_size} and {depth}")
        self.latent_size, self.depth = latent_size, depth
        self.embedding_size = 4 * 4 * 8 * depth
        widths = [3, depth, 2 * depth, 4 * depth, 8 * depth]
        down: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            down += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), _ChannelNorm(wide), nn.SiLU()]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        up: list[nn.Module] = []
        for wide, narrow in pairwise(widths[:0:-1]):
            up += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), _ChannelNorm(narrow), nn.SiLU()]
        self.begin = nn.Linear(latent_size, self.embedding_size)
        self.decoder = nn.Sequential(*up, nn.ConvTranspose2d(depth, 3, 4, 2, 1))

    def config(self) -> dict[str, Any]:
        return {"kind": "conv_autoencoder", "latent_size": self.latent_size, "depth": self.depth}

    def encode(self, observation: Tensor) -> Tensor:
        pictures = observation.permute(0, 3, 1, 2).float() / 255.0 - 0.5
        found: Tensor = self.encoder(pictures)
        return found.float()

    def decode(self, latent: Tensor) -> Tensor:
        squares = self.begin(latent).unflatten(1, (8 * self.depth, 4, 4))
        return self.decoder(squares).float().permute(0, 2, 3, 1) + 0.5

    def reconstruction_loss(self, latent: Tensor, observation: Tensor) -> Tensor:
        return 0.5 * (self.decode(latent) - observation.float() / 255.0).square().sum((1, 2, 3))


class SymlogMLP(JointVision):
    """Two hidden layers each way, for vectors.

    They are brought to mean 0 and standard deviation 1, then squashed, `symlog(x) = sign(x) log(1 + abs(x))` (Hafner et
    al. 2023, eq. 1). So large numbers do not drown small ones, and one that varies little is not left out, as it would
    be where what it says is worth less than M's free nats.

    Args:
        size: D, numbers of an observation.
        latent_size: Z, what M has to decode.
        width: Units of the hidden layers, and E.
        standardised: Whether `standardise` sets mean and deviation, and the encoder's first layer has a bias, without
            which its normalisation hides how large an observation is: x and 2x look alike. Only models that were fitted
            so do without.

    Raises:
        ConfigurationError: A number out of range.
    """

    is_image = False
    mean: Tensor
    std: Tensor

    def __init__(self, size: int, latent_size: int, width: int = 256, *, standardised: bool = False) -> None:
        super().__init__()
        if min(size, latent_size, width) < 1:
            raise ConfigurationError(f"size, latent_size, width must be at least 1, got {size}, {latent_size}, {width}")
        self.size, self.latent_size, self.embedding_size = size, latent_size, width
        self.observation_shape = (size,)
        self._standardised = standardised
        if standardised:
            self.register_buffer("mean", torch.zeros(size))
            self.register_buffer("std", torch.ones(size))
        self.encoder = nn.Sequential(_layer(size, width, bias=standardised), _layer(width, width))
        self.decoder = nn.Sequential(_layer(latent_size, width), _layer(width, width), nn.Linear(width, size))

    def config(self) -> dict[str, Any]:
        return {
            "kind": "symlog_mlp",
            "size": self.size,
            "latent_size": self.latent_size,
            "width": self.embedding_size,
            "standardised": self._standardised,
        }

    @torch.no_grad()
    def standardise(self, observations: NDArray[Any]) -> None:
        """Take mean and standard deviation of observations `[N, D]`; what never varies keeps its unit."""
        std, mean = torch.std_mean(torch.from_numpy(np.array(observations, np.float64)), dim=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > _LEAST_STD, std, torch.ones_like(std)))

    def encode(self, observation: Tensor) -> Tensor:
        found: Tensor = self.encoder(self._squashed(observation))
        return found.float()

    def decode(self, latent: Tensor) -> Tensor:
        squashed: Tensor = self.decoder(latent).float()
        found = squashed.sign() * squashed.abs().expm1()
        return found * self.std + self.mean if self._standardised else found

    def reconstruction_loss(self, latent: Tensor, observation: Tensor) -> Tensor:
        return 0.5 * (self.decoder(latent).float() - self._squashed(observation)).square().sum(1)

    def _squashed(self, observation: Tensor) -> Tensor:
        values = observation.float()
        if self._standardised:
            values = (values - self.mean) / self.std
        return values.sign() * torch.log1p(values.abs())


class _ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, pictures: Tensor) -> Tensor:
        normed: Tensor = self.norm(pictures.movedim(1, -1))
        return normed.movedim(-1, 1)


def _layer(inputs: int, outputs: int, *, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=bias), nn.LayerNorm(outputs), nn.SiLU())
