"""The last seconds that a player saw, as a GIF."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamenv.envs.render import enlarge
from dreamenv.errors import ConfigurationError
from dreamenv.figures.video import side_by_side, titled, write_video

SECONDS, PICTURES_PER_SECOND = 10, 10
_SIZE = 192


class Clip:
    """Keeps ten pictures a second of the last ten seconds.

    Real pictures are shown beside the dreamed ones if the last one has a real picture; those before it are left out.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[NDArray[np.uint8], NDArray[np.uint8] | None, str]] = deque(
            maxlen=SECONDS * PICTURES_PER_SECOND
        )
        self._due = 0.0

    def pass_time(self, seconds: float) -> None:
        """Game time has passed."""
        self._due -= seconds

    def add(self, dreamed: NDArray[np.uint8], real: NDArray[np.uint8] | None, note: str) -> None:
        """Keep a moment's pictures `[H, W, 3]` with a line of text, if enough time has passed since the last one."""
        if self._due <= 0.0:
            self._due = max(self._due, -1.0 / PICTURES_PER_SECOND) + 1.0 / PICTURES_PER_SECOND
            self._kept.append((dreamed, real, note))

    def to_gif(self) -> bytes:
        """The GIF.

        Raises:
            ConfigurationError: Nothing was shown yet.
            MissingExtraError: pillow is not installed.
        """
        if not self._kept:
            raise ConfigurationError("clip: there is nothing to save yet; drive for a moment first")
        together = self._kept[-1][1] is not None
        kept = [one for one in self._kept if (one[1] is not None) == together]
        dreamed = enlarge(np.stack([one[0] for one in kept]), _SIZE)
        notes = [one[2] for one in kept]
        real = [one[1] for one in kept if one[1] is not None]
        if real:
            frames = side_by_side(
                dreamed, enlarge(np.stack(real), _SIZE), ("dream", "reality"), (notes, [""] * len(real))
            )
        else:
            frames = titled(dreamed, "dream", notes)
        with tempfile.TemporaryDirectory(prefix="dreamenv-clip-") as folder:
            file = write_video(Path(folder) / "clip.gif", frames, PICTURES_PER_SECOND)
            return file.read_bytes()
