"""The register of visions, by the `kind` of their `config()`."""

from __future__ import annotations

from dreamenv.kinds import Register
from dreamenv.vision.base import Vision

VISIONS: Register[type[Vision]] = Register(
    "vision",
    {
        "conv_autoencoder": "dreamenv.vision.joint:ConvAutoencoder",
        "conv_vae": "dreamenv.vision.vae:ConvVAE",
        "identity": "dreamenv.vision.identity:IdentityVision",
        "picture_encoder": "dreamenv.vision.encoder:PictureEncoder",
        "stacked": "dreamenv.vision.stacked:StackedVision",
        "symlog_mlp": "dreamenv.vision.joint:SymlogMLP",
        "vector_encoder": "dreamenv.vision.encoder:VectorEncoder",
    },
    Vision,
)


def register_vision(kind: str, vision: type[Vision]) -> None:
    """Make bundles whose `vision.config()["kind"]` is `kind` load as `vision`, called as `vision(**config)`.

    Packages can name theirs in the entry-point group `dreamenv.vision`.

    Raises:
        ConfigurationError: Another vision has this name, or it is no class of visions.
    """
    VISIONS.add(kind, vision)
