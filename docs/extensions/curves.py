"""Plots of scores against real frames, of published runs and of what others have published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dreamenv.figures.canvas import new_figure
from dreamenv.workflows.published import SHIPPED, Figure, read_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_POINT = re.compile(r"(?:.*-)?\d+")
_COLOURS = ("#d62728", "#ff7f0e", "#8c564b", "#1f77b4", "#2ca02c", "#9467bd", "#7f7f7f")


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        label: In the legend.
        points: Along the way, in the order of their real frames.
        final: What the run ended with, where that was scored by itself. Where the score does not tell the real frames,
            they are those of the last point, which the whole run has used.
    """

    label: str
    points: tuple[Figure, ...]
    final: Figure | None = None


def read_curve(line: str, figures: str | Path = SHIPPED) -> Curve:
    """The curve of a line `LABEL: ENTRY` or `LABEL: ENTRY.PART`.

    An entry's points are its parts whose names end in a number, such as the rounds of a loop; a part is one point.

    Raises:
        LookupError: The line has another form, no such figure is published, or one has no real frames.
    """
    label, colon, name = (part.strip() for part in line.rpartition(":"))
    entry_name, _, wanted = name.partition(".")
    entry = read_figures(figures).get(entry_name)
    parts: Mapping[str, Figure] = {} if entry is None else entry.published()
    if not label or not colon or not parts or (wanted and wanted not in parts):
        raise LookupError(f"{line!r}: expected LABEL: ENTRY or LABEL: ENTRY.PART of a published figure")
    chosen = [parts[wanted]] if wanted else [figure for part, figure in parts.items() if _POINT.fullmatch(part)]
    if not chosen or any(figure.real_frames is None or figure.mean is None for figure in chosen):
        raise LookupError(f"{line!r}: a point has no real frames, so that it has no place in the plot")
    points = tuple(sorted(chosen, key=_frames))
    final = None if wanted else parts.get("")
    if final is not None and final.real_frames is None:
        final = replace(final, real_frames=points[-1].real_frames)
    return Curve(label, points, final)


def curves_figure(curves: Sequence[Curve]) -> Drawing:
    """Mean real return against real frames. A band reaches from the lowest to the highest seed, where they are known; a
    star is what a run ended with, with its 95% interval."""
    figure = new_figure(7.4, 4.2)
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        frames = [_frames(point) for point in curve.points]
        line = "o-" if len(curve.points) > 1 else "s"
        means = [point.mean for point in curve.points]
        axes.plot(frames, means, line, color=colour, markersize=4, linewidth=1.2, label=curve.label)
        known = [point for point in curve.points if {"lowest", "highest"} <= point.values.keys()]
        if known:
            low, high = ([point.values[key] for point in known] for key in ("lowest", "highest"))
            axes.fill_between([_frames(point) for point in known], low, high, color=colour, alpha=0.12, linewidth=0)
            axes.vlines([_frames(point) for point in known], low, high, color=colour, linewidth=0.7)
        if curve.final is not None and curve.final.mean is not None:
            low, high = curve.final.ci95 or (curve.final.mean, curve.final.mean)
            reach = [[curve.final.mean - low], [high - curve.final.mean]]
            axes.errorbar([_frames(curve.final)], [curve.final.mean], reach, fmt="*", color=colour, markersize=12)
    axes.set_xlabel("real frames")
    axes.set_ylabel("real return")
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.0f}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def _frames(figure: Figure) -> int:
    assert figure.real_frames is not None
    return figure.real_frames
