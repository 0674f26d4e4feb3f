"""CarRacing with the road that still earns something painted brighter."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dreamenv.data.changed_picture import ChangedPicture
from dreamenv.data.resize import open_cv
from dreamenv.errors import ConfigurationError

# Levels of grey in the picture: of a tile that has been driven over, and the lightest of the others
_VISITED, _LIGHTEST = 100, 105
# Three tiles in a row have three levels, the first of which is that of visited ones. A tile is about 5.4 pixels long,
# so squares around pixels of the other two close over the first.
_SQUARE = np.ones((7, 7), np.uint8)
_LEAST = np.ones((3, 3), np.uint8)


class UnvisitedRoad(ChangedPicture):
    """Paints the tiles of CarRacing's road that have not been visited.

    CarRacing pays for a tile once. Tiles that still pay have faint bands, of three levels of grey out of 256, which
    vanish when a wheel touches them. They tell which way to drive behind an excursion off the road, and no vision that
    is fitted to whole pictures keeps them.

    Args:
        env: CarRacing with its own colours.
        grey: Their level, 0 to 255.

    Raises:
        ConfigurationError: Observations that are no pictures, or a number out of range.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, env: gym.Env[Any, Any], grey: int = 180) -> None:
        super().__init__(env)
        if not 0 <= grey <= 255:
            raise ConfigurationError(f"grey must be in [0, 255], got {grey}")
        open_cv()  # says at once that it is missing
        self._grey = grey

    def changed(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        cv2 = open_cv()
        level = picture[..., 0]
        road = (picture.max(-1) == picture.min(-1)) & (level >= _VISITED) & (level <= _LIGHTEST)
        banded = (road & (level > _VISITED)).astype(np.uint8)
        # Where white kerbs blend with the road, single pixels have such a level
        tiles = cv2.morphologyEx(banded, cv2.MORPH_OPEN, _LEAST)
        picture[road & (cv2.dilate(tiles, _SQUARE) > 0)] = self._grey
        return picture
