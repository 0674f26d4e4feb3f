"""Real environments that look a little different: wrappers that test how robust an agent is.

The agent, its vision model V and its memory model M stay as they are. Name a wrapper in `RealEnvSpec.wrappers`, or on
the command line: `dreamenv eval DreamCarRacing-v0 --real "wrappers=[{path: 'dreamenv.data.variants:Blob'}]"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dreamenv.data.changed_picture import ChangedPicture
from dreamenv.errors import ConfigurationError


class Tint(ChangedPicture):
    """Multiplies colours: other colours, or with equal factors another brightness.

    Args:
        env, key: As for all wrappers of this module.
        factors: One for each channel, at least 0.

    Raises:
        ConfigurationError: Another number of factors, or a negative one.
    """

    def __init__(self, env: gym.Env[Any, Any], factors: Sequence[float] = (1.0, 1.0, 1.0), key: str | None = None):
        super().__init__(env, key)
        self._factors = np.asarray(factors, np.float32)
        if self._factors.shape != (self.shape[2],) or not bool((self._factors >= 0).all()):
            raise ConfigurationError(f"factors={list(factors)}: expected {self.shape[2]} numbers of at least 0")

    def changed(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.clip(picture * self._factors, 0, 255).astype(np.uint8)


class Blob(ChangedPicture):
    """Puts a square of one colour on every picture, at the same place.

    Args:
        env, key: As for all wrappers of this module.
        top, left: The square's corner, as a share of height and width in [0, 1).
        size: Its side, as a share of the height in (0, 1].
        colour: One value for each channel, 0 to 255.

    Raises:
        ConfigurationError: A number out of range.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        top: float = 0.2,
        left: float = 0.2,
        size: float = 0.1,
        colour: Sequence[int] = (255, 0, 0),
        key: str | None = None,
    ) -> None:
        super().__init__(env, key)
        height, width, channels = self.shape
        inside = 0 <= top < 1 and 0 <= left < 1 and 0 < size <= 1
        if not inside or len(colour) != channels or not all(0 <= value <= 255 for value in colour):
            raise ConfigurationError(
                f"top={top}, left={left}, size={size}, colour={list(colour)}: expected shares within the picture and "
                f"{channels} values of 0 to 255"
            )
        side, row, column = max(1, round(size * height)), int(top * height), int(left * width)
        self._place = slice(row, row + side), slice(column, column + side)
        self._colour = np.asarray(colour, np.uint8)

    def changed(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        picture[self._place] = self._colour
        return picture
