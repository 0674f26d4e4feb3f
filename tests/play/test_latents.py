"""What each latent number changes in the picture."""

from __future__ import annotations

import torch

from dreamenv.play.latents import order_of_effect, start_latents
from tests.play.openings import known_opening


def test_numbers_that_change_the_picture_come_first() -> None:
    model = known_opening().model
    size = model.memory.latent_size
    assert start_latents(model).shape == (len(model.starts.replay["latent"]), size)

    def decode(latents: torch.Tensor) -> torch.Tensor:
        # The second number sets all of the picture, the third half of it, the first nothing
        picture = torch.zeros(len(latents), 64, 64, 3)
        picture += latents[:, 1, None, None, None]
        picture[:, :32] += latents[:, 2, None, None, None]
        return picture

    model.vision.decode_uint8 = decode  # type: ignore[method-assign,assignment]
    assert order_of_effect(model) == [1, 2, 0]
