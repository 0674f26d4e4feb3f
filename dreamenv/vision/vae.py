"""The convolutional VAE of World Models (Ha & Schmidhuber 2018, appendix A.1) for 64x64 pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.vision.base import Vision

LARGEST_WEIGHT = 30.0
_COLOUR_LEVELS = 8


class ConvVAE(Vision):
    """V: four strided convolutions down to a diagonal Gaussian over the latent, four transposed ones back.

    With `channels=32` these are the paper's layers. The loss is the negative ELBO in nats of a Gaussian likelihood with
    standard deviation `reconstruction_std` on pixels in [0, 1] (Kingma & Welling 2014, eq. 7, KL weighted by `beta` as
    in Higgins et al. 2017):

        -ELBO = sum (x - x̂)² / (2 s²) + 12288 log(s sqrt(2 pi)) + beta KL(q(z|x) || N(0, 1))

    The paper's own loss, summed squared error plus KL, is s = 0.71: four pixels of a distant fireball are then worth a
    single nat, less than it costs to tell where they are, and V leaves them out. The smaller `reconstruction_std` here
    makes them worth encoding. The paper also floors the KL at half a nat a dimension; this does not.

    What an agent must see is often small and of a rare colour. With `rare_colour_exponent` a > 0 the squared error of a
    pixel is weighted by its colour's rarity in the data, (1 / frequency)^a capped at `LARGEST_WEIGHT` times the mean,
    the mean weight over all pixels being 1 (see `set_colour_weights`): a smaller s where it matters, larger elsewhere.

    Args:
        latent_size: Z.
        channels: Width of the first convolution; the others have 2, 4 and 8 times as many.
        reconstruction_std: s, in units of a pixel scaled to [0, 1].
        beta: Weight of the KL divergence.
        rare_colour_exponent: a; 0 weights all pixels alike.
    """

    is_image = True
    observation_shape = (64, 64, 3)
    colour_weights: Tensor

    def __init__(
        self,
        latent_size: int = 32,
        channels: int = 32,
        reconstruction_std: float = 0.1,
        beta: float = 1.0,
        rare_colour_exponent: float = 0.0,
    ) -> None:
        super().__init__()
        if min(latent_size, channels) < 1 or reconstruction_std <= 0 or min(beta, rare_colour_exponent) < 0:
            raise ConfigurationError(
                "latent_size and channels must be at least 1, reconstruction_std positive, beta and "
                f"rare_colour_exponent not negative; got {latent_size}, {channels}, {reconstruction_std}, {beta}, "
                f"{rare_colour_exponent}"
            )
        self.rare_colour_exponent = rare_colour_exponent
        self.embedding_size = self.latent_size = latent_size
        self.channels = channels
        self.reconstruction_std = reconstruction_std
        self.beta = beta
        c = channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, c, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(c, 2 * c, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(2 * c, 4 * c, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(4 * c, 8 * c, 4, stride=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.posterior_head = nn.Linear(32 * c, 2 * latent_size)
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, 32 * c),
            nn.Unflatten(1, (32 * c, 1, 1)),
            nn.ConvTranspose2d(32 * c, 4 * c, 5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * c, 2 * c, 5, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * c, c, 6, stride=2),
            nn.ReLU(),
            nn.ConvTranspose2d(c, 3, 6, stride=2),
            nn.Sigmoid(),
        )
        self.register_buffer("colour_weights", torch.ones(_COLOUR_LEVELS**3))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def set_colour_weights(self, observation: Tensor) -> None:
        """Set the weights of the reconstruction error from the colours of pictures `[N, 64, 64, 3]` uint8."""
        counts = torch.bincount(colours(observation).flatten(), minlength=_COLOUR_LEVELS**3).double()
        share = counts / counts.sum()
        # one pixel more of each colour, so that a colour these pictures lack has a weight too
        weights = ((counts + 1) / (counts + 1).sum()) ** -self.rare_colour_exponent
        for _ in range(100):  # the cap moves the mean, which moves the cap
            weights = (weights / (weights * share).sum()).clamp(max=LARGEST_WEIGHT)
        self.colour_weights.copy_(weights)

    def posterior(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.posterior_head(self.encoder(_to_network(observation))).float().chunk(2, dim=-1)
        return mean, log_std.clamp(-8.0, 4.0).exp()

    def encode(self, observation: Tensor) -> Tensor:
        return self.posterior(observation)[0]

    def decode(self, latent: Tensor) -> Tensor:
        pictures: Tensor = self.decoder(latent)
        return pictures.float().permute(0, 2, 3, 1)

    def loss(self, observation: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` is the negative ELBO in nats an image, without the constant 12288 log(s sqrt(2 pi)).

        Also `reconstruction` (nats), `kl` (nats), `mse` (mean squared error of a pixel in [0, 1]) and `active`, how
        many latent dimensions have a KL above 0.1 nats.
        """
        mean, std = self.posterior(observation)
        noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean.device)
        squared = (self.decode(mean + std * noise) - observation.float() / 255).square()
        weights = self.colour_weights[colours(observation)]
        reconstruction = (squared.sum(-1) * weights).flatten(1).sum(1).mean() / (2 * self.reconstruction_std**2)
        kl = (0.5 * (mean.square() + std.square() - 1) - std.log()).mean(0)
        return {
            "loss": reconstruction + self.beta * kl.sum(),
            "reconstruction": reconstruction.detach(),
            "kl": kl.sum().detach(),
            "mse": squared.detach().mean(),
            "active": (kl.detach() > 0.1).sum().float(),
        }

    def config(self) -> dict[str, Any]:
        return {
            "kind": "conv_vae",
            "latent_size": self.latent_size,
            "channels": self.channels,
            "reconstruction_std": self.reconstruction_std,
            "beta": self.beta,
            "rare_colour_exponent": self.rare_colour_exponent,
        }


def colours(observation: Tensor) -> Tensor:
    """Number of the colour cell `[...]` int64 of pixels `[..., 3]` uint8."""
    level = (observation >> 5).long()
    return (level[..., 0] * _COLOUR_LEVELS + level[..., 1]) * _COLOUR_LEVELS + level[..., 2]


def _to_network(observation: Tensor) -> Tensor:
    """`[B, 64, 64, 3]` uint8 to `[B, 3, 64, 64]` in [0, 1]; the permuted view is channels-last already."""
    return observation.permute(0, 3, 1, 2).float() / 255
