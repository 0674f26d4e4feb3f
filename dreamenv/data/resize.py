"""Pictures in the size that V takes."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import missing_extra


def open_cv() -> ModuleType:
    """OpenCV.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("opencv-python-headless", "real") from error
    return cv2


def resize_area(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """`[H, W, 3]` uint8 resized to `[size, size, 3]` by area averaging."""
    if picture.shape[:2] == (size, size):
        return np.ascontiguousarray(picture)
    cv2 = open_cv()
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), (size, size), interpolation=cv2.INTER_AREA), np.uint8)
