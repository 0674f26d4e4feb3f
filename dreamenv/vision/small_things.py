"""Whether a vision draws what is small and rare, such as a fireball of three pixels: the mean error does not tell."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.errors import missing_extra
from dreamenv.vision.vae import colours

# Pixels of a small thing, and the largest share of all pixels that a rare colour has
SMALL = (2, 5)
RARE = 1e-3


class SmallThings:
    """Finds small things of rare colours in pictures, and counts those that a vision draws.

    A thing is 2 to 5 pixels of rare colours that touch, corners included. It is drawn where the decoded picture is,
    over its pixels, nearer to the picture than to what these pixels show on average over `pictures`.

    Args:
        pictures: `[N, H, W, 3]` uint8, from which rare colours and the average are taken.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, pictures: NDArray[np.uint8]) -> None:
        try:
            import cv2
        except ImportError as error:
            raise missing_extra("opencv-python-headless", "train") from error
        self._components = cv2.connectedComponentsWithStats
        self._area = cv2.CC_STAT_AREA
        codes = colours(torch.from_numpy(pictures)).numpy()
        shares = np.bincount(codes.ravel()) / codes.size
        self._rare = shares < RARE
        self._average = pictures.mean(0, dtype=np.float64)

    def count(self, pictures: NDArray[np.uint8], decoded: NDArray[np.float32]) -> tuple[int, int]:
        """How many of the small things in `pictures` are drawn, and how many there are.

        Args:
            pictures: `[N, H, W, 3]` uint8.
            decoded: `[N, H, W, 3]`, the same as a vision draws them, in [0, 1].
        """
        drawn = found = 0
        codes = colours(torch.from_numpy(pictures)).numpy()
        # Colours that the pictures of the beginning lack are rare too
        rare = np.ones(int(codes.max()) + 1, bool)
        rare[: len(self._rare)] = self._rare[: len(rare)]
        for picture, shown, code in zip(pictures.astype(np.float64), decoded * 255.0, codes, strict=True):
            _, labels, stats, _ = self._components(rare[code].astype(np.uint8), connectivity=8)
            sizes = stats[:, self._area]
            missed = np.square(shown - picture).sum(-1)
            absent = np.square(shown - self._average).sum(-1)
            for label in np.flatnonzero((sizes >= SMALL[0]) & (sizes <= SMALL[1])):
                if label == 0:  # the background
                    continue
                here = labels == label
                found += 1
                drawn += bool(missed[here].sum() < absent[here].sum())
        return drawn, found
