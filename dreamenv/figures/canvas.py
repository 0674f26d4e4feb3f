"""New figures, grids of pictures, and how figures are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.errors import missing_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# The same in every figure; neutral is what neither has dreamed nor happened
REAL_COLOUR, DREAM_COLOUR, NEUTRAL_COLOUR = "#1f77b4", "#d62728", "#7f7f7f"
_SHOWN_DIMENSIONS = 4


def save_figure(figure: Figure, file: str | Path) -> Path:
    """Write a figure as .png or .svg, by the file's suffix; its folder is made."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return file


def save_figures(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as `<folder>/<name>.png` and `.svg`; returns the files."""
    return [save_figure(f, Path(folder) / f"{name}{kind}") for name, f in figures.items() for kind in (".png", ".svg")]


def check_drawing() -> None:
    """Refuse to draw, for callers that measure for minutes before they do.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise missing_extra("matplotlib", "train") from error


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    check_drawing()
    from matplotlib.figure import Figure

    # A Figure of its own, not pyplot's: it draws by Agg and leaves no global state
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def picture_grid(rows: Sequence[tuple[str, NDArray[np.uint8]]], columns: Sequence[str], title: str) -> Figure:
    figure = new_figure(1.25 * len(columns) + 0.6, 1.3 * len(rows) + 0.6)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, (label, pictures) in enumerate(rows):
        for column, picture in enumerate(pictures):
            axes = grid[row, column]
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(columns[column], fontsize=9)
            if column == 0:
                axes.set_ylabel(label, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def line_grid(real: NDArray[Any], dreamed: torch.Tensor, title: str) -> Figure:
    dimensions = min(real.shape[1], _SHOWN_DIMENSIONS)
    figure = new_figure(7.0, 1.5 * dimensions + 0.6)
    grid = figure.subplots(dimensions, 1, squeeze=False, sharex=True)[:, 0]
    steps = np.arange(len(real))
    dreams = dreamed.cpu().numpy()
    for dimension, axes in enumerate(grid):
        axes.plot(steps, real[:, dimension], color=REAL_COLOUR, label="real")
        for number, sample in enumerate(dreams):
            line = np.concatenate([real[:1, dimension], sample[:, dimension]])
            axes.plot(steps, line, color=DREAM_COLOUR, alpha=0.6, label="dream" if number == 0 else None)
        axes.set_ylabel(f"observation[{dimension}]", fontsize=8)
        axes.grid(alpha=0.3)
    grid[0].legend(fontsize=8)
    grid[-1].set_xlabel("steps")
    figure.suptitle(title, fontsize=10)
    return figure
