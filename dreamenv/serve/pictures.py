"""Pictures and numbers as binary messages: one byte that says what it is, then the content."""

from __future__ import annotations

import io
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Kind(IntEnum):
    """The first byte of a binary message, and what follows it.

    DREAM, REAL and LATENT are a WebP picture of 64x64; FAN is one of 192x192, three rows of three; MIXTURE is
    `[3 K + 1, Z]` float32, little endian (see `Mixture.to_array`); CLIP is a GIF.
    """

    DREAM = 1
    REAL = 2
    FAN = 3
    LATENT = 4
    MIXTURE = 5
    CLIP = 6


def picture_message(kind: Kind, picture: NDArray[np.uint8], *, lossless: bool = True) -> bytes:
    """A picture `[H, W, 3]` as a binary message.

    Lossless WebP at its fastest is half the size of the raw pixels and takes a tenth of a millisecond; the lossy form
    is for the fan, whose nine pictures are small on the screen.
    """
    buffer = io.BytesIO()
    buffer.write(bytes([kind]))
    settings: dict[str, Any] = {"lossless": True, "quality": 0} if lossless else {"quality": 90}
    Image.fromarray(picture).save(buffer, "WEBP", method=0, **settings)
    return buffer.getvalue()


def numbers_message(kind: Kind, numbers: NDArray[np.float32]) -> bytes:
    """Numbers as a binary message of little-endian float32."""
    return bytes([kind]) + np.ascontiguousarray(numbers, "<f4").tobytes()
