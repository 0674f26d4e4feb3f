"""A vision over what another one encodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.vision.base import Vision
from dreamenv.vision.kinds import VISIONS


class StackedVision(Vision):
    """Encodes what `inner` encodes by `outer`, and decodes the other way round.

    With a VAE that is fitted already as `inner`, an RSSM and its `outer` vision learn from 32 numbers a picture and
    need no convolution.

    Args:
        inner: Takes observations; a vision, or its `config()`.
        outer: Takes vectors that `inner` encodes, and decodes M's latents to them; a vision, or its `config()`.

    Raises:
        ConfigurationError: `outer` takes something else than `inner` gives, or a config of an unknown kind.
    """

    def __init__(self, inner: Vision | Mapping[str, Any], outer: Vision | Mapping[str, Any]) -> None:
        super().__init__()
        self.inner = inner if isinstance(inner, Vision) else _of_config(inner)
        self.outer = outer if isinstance(outer, Vision) else _of_config(outer)
        if self.outer.observation_shape != (self.inner.embedding_size,):
            raise ConfigurationError(
                f"the inner vision gives vectors of {self.inner.embedding_size}, the outer one takes observations of "
                f"shape {self.outer.observation_shape}"
            )
        if self.inner.embedding_size != self.inner.latent_size:
            raise ConfigurationError(
                f"{type(self.inner).__name__} encodes {self.inner.embedding_size} numbers and decodes "
                f"{self.inner.latent_size}; an inner vision decodes what it encodes"
            )
        self.latent_size, self.embedding_size = self.outer.latent_size, self.outer.embedding_size
        self.observation_shape, self.is_image = self.inner.observation_shape, self.inner.is_image

    def config(self) -> dict[str, Any]:
        return {"kind": "stacked", "inner": self.inner.config(), "outer": self.outer.config()}

    def encode(self, observation: Tensor) -> Tensor:
        with torch.no_grad():
            seen = self.inner.encode(observation)
        return self.outer.encode(seen)

    def decode(self, latent: Tensor) -> Tensor:
        return self.inner.decode(self.outer.decode(latent))


def _of_config(config: Mapping[str, Any]) -> Vision:
    options = dict(config)
    vision: Vision = VISIONS[str(options.pop("kind", ""))](**options)
    return vision
