"""What was played, as a video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamenv.envs.render import enlarge
from dreamenv.figures.video import check_writer, side_by_side, titled, write_video

MOST_FRAMES = 3000
_SIZE = 256


class VideoRecorder:
    """Keeps small pictures while it records, and writes them enlarged.

    Args:
        file: .mp4 or .gif to write; a number is added to its name rather than writing over another one.
        frames_per_second: Of the video.

    Raises:
        ConfigurationError: The file's name ends on neither .mp4 nor .gif.
        MissingExtraError: imageio or pillow is not installed.
    """

    def __init__(self, file: Path, frames_per_second: float) -> None:
        check_writer(file)
        self._file = file
        self._frames_per_second = frames_per_second
        self._decoded: list[NDArray[np.uint8]] = []
        self._real: list[NDArray[np.uint8] | None] = []
        self._notes: list[str] = []

    @property
    def full(self) -> bool:
        """Whether nothing more is kept."""
        return len(self._decoded) >= MOST_FRAMES

    def add(self, decoded: NDArray[np.uint8], real: NDArray[np.uint8] | None, note: str) -> None:
        """Keep a moment: the decoded picture `[H, W, 3]`, the real one if there is one, and a line of text."""
        if not self.full:
            self._decoded.append(decoded)
            self._real.append(real)
            self._notes.append(note)

    def write(self) -> Path | None:
        """Write the video, the real picture beside the decoded one if there was any; None if nothing was recorded."""
        if not self._decoded:
            return None
        decoded = enlarge(np.stack(self._decoded), _SIZE)
        if any(picture is not None for picture in self._real):
            dark = np.zeros_like(self._decoded[0])
            real = enlarge(np.stack([dark if picture is None else picture for picture in self._real]), _SIZE)
            frames = side_by_side(decoded, real, ("dream", "reality"), (self._notes, [""] * len(real)))
        else:
            frames = titled(decoded, "dream", self._notes)
        file = self._file
        number = 2
        while file.exists():
            file = self._file.with_stem(f"{self._file.stem}-{number}")
            number += 1
        return write_video(file, frames, self._frames_per_second)
