"""Figures of a benchmark: steps a second against the number of dreams, and their growth with the model's sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamenv.bench.run import Row
from dreamenv.figures.canvas import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bench_figures(rows: Sequence[Row]) -> dict[str, Figure]:
    """`throughput`: steps a second over the number of dreams; `growth`, where curves were measured."""
    figures = {"throughput": _throughput(rows)}
    curves = [row for row in rows if row.case.startswith("curve ")]
    if curves:
        figures["growth"] = _growth(curves)
    return figures


def _throughput(rows: Sequence[Row]) -> Figure:
    figure = new_figure(7.0, 4.5)
    axes = figure.subplots()
    lines = defaultdict(list)
    for row in rows:
        if row.case.startswith("dream vector"):
            lines[row.case].append(row)
    for name, line in lines.items():
        numbers = [row.num_envs for row in line]
        axes.plot(numbers, [row.steps_per_s for row in line], marker="o", label=name)
        if name == "dream vector":
            bounds = [(row.num_envs, row.bound_steps_per_s) for row in line if row.bound_steps_per_s is not None]
            axes.plot(*zip(*bounds, strict=True), linestyle="--", color="grey", label="its matrix products alone")
    for row in rows:
        if not row.case.startswith(("dream vector", "curve ", "decode", "encode", "train ")):
            axes.plot([row.num_envs], [row.steps_per_s], linestyle="", marker="x", label=row.case)
    axes.set(xscale="log", yscale="log", xlabel="dreams at once", ylabel="steps a second")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _growth(rows: Sequence[Row]) -> Figure:
    curves = defaultdict(list)
    for row in rows:
        _, name, value = row.case.split()
        curves[name].append((int(value), row))
    figure = new_figure(3.2 * len(curves), 3.2)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for axes, (name, points) in zip(panels, curves.items(), strict=True):
        axes.plot([value for value, _ in points], [row.steps_per_s for _, row in points], marker="o", label="dream")
        bounds = [(value, row.bound_steps_per_s) for value, row in points if row.bound_steps_per_s is not None]
        if bounds:
            axes.plot(*zip(*bounds, strict=True), linestyle="--", color="grey", label="matrix products")
        sizes = sorted({row.num_envs for _, row in points})
        title = f"{sizes[0]} dreams" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]:,} dreams"
        axes.set(xscale="log", yscale="log", xlabel=name, title=title)
        axes.set_xticks([value for value, _ in points], [str(value) for value, _ in points])
        axes.minorticks_off()
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(fontsize="small")
    panels[0].set_ylabel("steps a second")
    return figure
