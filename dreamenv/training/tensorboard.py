"""TensorBoard scalars and pictures of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import missing_extra


class TensorBoardRecorder:
    """Writes scalars and pictures under `<path>`, to be read by TensorBoard.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing_extra("tensorboard", "train") from error
        self._writer: Any = SummaryWriter(str(path))

    def scalars(self, prefix: str, step: int, values: dict[str, float]) -> None:
        """Record `values` as `<prefix>/<name>` at `step`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{prefix}/{name}", value, step)
        self._writer.flush()

    def picture(self, name: str, step: int, picture: NDArray[np.uint8]) -> None:
        """Record a picture `[H, W, 3]` uint8."""
        self._writer.add_image(name, picture, step, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
