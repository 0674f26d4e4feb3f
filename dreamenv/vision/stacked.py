"""A vision over what another one encodes."""

from __future__ import annotations

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
        inner: `config()` of the vision that takes observations.
        outer: `config()` of the one that takes vectors that `inner` encodes, and decodes M's latents to them.

    Raises:
        ConfigurationError: `outer` takes something else than `inner` gives, or a config of an unknown kind.
    """

    def __init__(self, inner: dict[str, Any], outer: dict[str, Any]) -> None:
        super().__init__()
        self.inner, self.outer = _of_config(inner), _of_config(outer)
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

    @classmethod
    def of(cls, inner: Vision, outer: Vision) -> StackedVision:
        """The two as one; it holds them and not copies of them.

        Raises:
            ConfigurationError: As the class.
        """
        stacked = cls(inner.config(), outer.config())
        stacked.inner, stacked.outer = inner, outer
        return stacked

    def config(self) -> dict[str, Any]:
        return {"kind": "stacked", "inner": self.inner.config(), "outer": self.outer.config()}

    def encode(self, observation: Tensor) -> Tensor:
        with torch.no_grad():
            seen = self.inner.encode(observation)
        return self.outer.encode(seen)

    def decode(self, latent: Tensor) -> Tensor:
        return self.inner.decode(self.outer.decode(latent))


def _of_config(config: dict[str, Any]) -> Vision:
    options = dict(config)
    vision: Vision = VISIONS[str(options.pop("kind", ""))](**options)
    return vision
