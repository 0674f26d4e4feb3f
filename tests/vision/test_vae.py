"""The convolutional VAE: shapes, the ELBO by hand, and the weights of rare colours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.vision.vae import LARGEST_WEIGHT, ConvVAE
from tests.fakes import draw_weights


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**options: Any) -> ConvVAE:
    vision = ConvVAE(**({"latent_size": 5, "channels": 4} | options))
    draw_weights(vision, seeded(1))
    return vision


def noise_pictures(count: int = 3) -> Tensor:
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=seeded(2))


def coloured(*colours: tuple[tuple[int, int, int], int]) -> Tensor:
    """One picture with so many pixels of each colour, in order."""
    pixels = torch.cat([torch.tensor(colour, dtype=torch.uint8).expand(count, 3) for colour, count in colours])
    return pixels.reshape(1, 64, 64, 3)


def test_the_default_has_the_layers_of_the_paper() -> None:
    vision = ConvVAE()
    shapes = [tuple(weight.shape) for name, weight in vision.named_parameters() if name.endswith("weight")]
    assert shapes == [
        (32, 3, 4, 4), (64, 32, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (64, 1024),
        (1024, 32), (1024, 128, 5, 5), (128, 64, 5, 5), (64, 32, 6, 6), (32, 3, 6, 6),
    ]  # fmt: skip
    assert sum(weight.numel() for weight in vision.parameters()) == 4_348_547


def test_shapes_and_ranges() -> None:
    vision, pictures = small(), noise_pictures()
    mean, std = vision.posterior(pictures)
    assert mean.shape == std.shape == (3, 5)
    assert (std > 0).all()
    assert torch.equal(vision.encode(pictures), mean)
    decoded = vision.decode(mean)
    assert (decoded.shape, decoded.dtype) == ((3, 64, 64, 3), torch.float32)
    assert 0 <= decoded.min() <= decoded.max() <= 1
    shown = vision.decode_uint8(mean)
    assert (shown.shape, shown.dtype) == ((3, 64, 64, 3), torch.uint8)
    assert (shown.float() / 255 - decoded).abs().max() <= 0.5 / 255 + 1e-6
    assert vision.is_image
    assert vision.observation_shape == (64, 64, 3)


def test_rows_and_channels_keep_their_places() -> None:
    """A picture whose top is red must not be seen as one whose left is red, or is blue."""
    vision = small()
    variants = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    variants[0, :32, :, 0] = 255
    variants[1, :, :32, 0] = 255
    variants[2, :32, :, 2] = 255
    variants[3] = variants[0]
    latents = vision.encode(variants)
    assert torch.allclose(latents[0], latents[3])
    assert min((latents[0] - latents[i]).abs().max() for i in (1, 2)) > 0.01


def test_the_elbo_by_hand() -> None:
    vision, pictures = small(reconstruction_std=0.3, beta=2.5), noise_pictures()
    found = vision.loss(pictures, generator=seeded(7))
    mean, std = vision.posterior(pictures)
    latent = mean + std * torch.randn(mean.shape, generator=seeded(7))
    reality = torch.distributions.Normal(vision.decode(latent), 0.3)
    constant = torch.distributions.Normal(torch.tensor(0.0), 0.3).log_prob(torch.tensor(0.0)) * 12288
    reconstruction = constant - reality.log_prob(pictures / 255).sum(dim=(1, 2, 3))
    standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(std))
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(mean, std), standard)
    torch.testing.assert_close(found["reconstruction"], reconstruction.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(found["kl"], kl.sum(1).mean())
    torch.testing.assert_close(found["loss"], (reconstruction + 2.5 * kl.sum(1)).mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(found["mse"], (vision.decode(latent) - pictures / 255).square().mean())
    assert found["active"] == (kl.mean(0) > 0.1).sum()
    assert found["loss"].requires_grad
    other = vision.loss(pictures, generator=seeded(8))
    assert other["loss"] != found["loss"]


def test_the_loss_falls_on_a_few_pictures() -> None:
    vision = small(channels=8)
    pictures = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
    for i in range(4):
        pictures[i, 10 * i : 10 * i + 20, 20:40, i % 3] = 250
    optimiser = torch.optim.Adam(vision.parameters(), lr=2e-3)
    losses = []
    for step in range(50):
        optimiser.zero_grad()
        found = vision.loss(pictures, generator=seeded(step))
        found["loss"].backward()
        optimiser.step()
        losses.append(found["loss"].item())
    assert losses[-1] < 0.3 * losses[0]


def test_exponent_zero_weights_all_pixels_alike() -> None:
    vision = small(rare_colour_exponent=0.0)
    vision.set_colour_weights(noise_pictures())
    assert torch.equal(vision.colour_weights, torch.ones(512))


@pytest.mark.parametrize("exponent", [0.25, 0.5, 1.0])
def test_rarer_colours_weigh_more_and_the_mean_pixel_one(exponent: float) -> None:
    pictures = coloured(((10, 10, 10), 4000), ((250, 10, 10), 80), ((10, 250, 250), 16))
    vision = small(rare_colour_exponent=exponent)
    vision.set_colour_weights(pictures)
    cells = (pictures.long() >> 5).reshape(-1, 3) @ torch.tensor([64, 8, 1])
    weights = vision.colour_weights[cells]
    assert weights.mean().item() == pytest.approx(1.0, abs=1e-4)
    common, rare, rarest = weights[0], weights[4000], weights[4080]
    assert common < rare <= rarest <= LARGEST_WEIGHT
    if rarest < LARGEST_WEIGHT - 1e-3:
        assert (rare / common).item() == pytest.approx((4001 / 81) ** exponent, rel=1e-3)
    never_seen = vision.colour_weights[(7 << 6) + (7 << 3) + 7]
    assert rarest <= never_seen <= LARGEST_WEIGHT
    # an error on a rare pixel costs its weight times more
    plain = small(rare_colour_exponent=0.0)
    plain.load_state_dict(vision.state_dict())
    assert torch.equal(plain.colour_weights, vision.colour_weights)


def test_the_weights_enter_the_reconstruction() -> None:
    vision, pictures = small(rare_colour_exponent=0.5), coloured(((10, 10, 10), 4000), ((250, 10, 10), 96))
    vision.set_colour_weights(pictures)
    found = vision.loss(pictures, generator=seeded(7))
    mean, std = vision.posterior(pictures)
    decoded = vision.decode(mean + std * torch.randn(mean.shape, generator=seeded(7)))
    squared = (decoded - pictures / 255).square().sum(-1).flatten()
    low, high = vision.colour_weights[0], vision.colour_weights[7 << 6]
    by_hand = (low * squared[:4000].sum() + high * squared[4000:].sum()) / (2 * vision.reconstruction_std**2)
    torch.testing.assert_close(found["reconstruction"], by_hand, rtol=1e-4, atol=0)


def test_bfloat16_autocast_gives_float32_losses() -> None:
    vision, pictures = small(), noise_pictures()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = vision.loss(pictures, generator=seeded(7))
    exact = vision.loss(pictures, generator=seeded(7))
    assert {value.dtype for value in found.values()} == {torch.float32}
    torch.testing.assert_close(found["loss"], exact["loss"], rtol=0.02, atol=0)
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in vision.parameters())


def test_the_config_rebuilds_the_model() -> None:
    vision = small(reconstruction_std=0.2, beta=0.5, rare_colour_exponent=0.25)
    config = vision.config()
    assert config.pop("kind") == "conv_vae"
    again = ConvVAE(**config)
    again.load_state_dict(vision.state_dict())
    assert again.config() == vision.config()
    assert torch.equal(again.encode(noise_pictures()), vision.encode(noise_pictures()))


@pytest.mark.parametrize(
    "options",
    [{"latent_size": 0}, {"channels": 0}, {"reconstruction_std": 0.0}, {"beta": -1}, {"rare_colour_exponent": -0.1}],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="latent_size and channels must be at least 1"):
        ConvVAE(**options)
