"""Plots of what docs/exploitation_study.py has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dream_facts import table

from dreamenv.figures.canvas import DREAM_COLOUR, NEUTRAL_COLOUR, REAL_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKERS = "osD^vP*X<>hd"


def study_figure(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Dreamed against real return, a point a row with the range of its seeds; on the dashed line both are the same."""
    figure = new_figure(7.4, 5.2)
    axes = figure.subplots()
    switches = list(dict.fromkeys(row["switch"] for row in rows.values()))
    for number, switch in enumerate(switches):
        own = [row for row in rows.values() if row["switch"] == switch]
        colour = "black" if switch == "base" else f"C{number % 10}"
        axes.errorbar(
            [row["dream_mean"] for row in own],
            [row["mean"] for row in own],
            xerr=list(zip(*(_reach(row["dreamed"], row["dream_mean"]) for row in own), strict=True)),
            yerr=list(zip(*(_reach(row["real"], row["mean"]) for row in own), strict=True)),
            fmt=_MARKERS[number % len(_MARKERS)],
            color=colour,
            markersize=6,
            elinewidth=0.7,
            label=switch,
        )
        for row in own:
            place = (row["dream_mean"], row["mean"])
            axes.annotate(row["value"], place, (5, 4), textcoords="offset points", fontsize=6.5, color=colour)
    ends = [min(*axes.get_xlim(), *axes.get_ylim()), max(*axes.get_xlim(), *axes.get_ylim())]
    axes.plot(ends, ends, "--", color=NEUTRAL_COLOUR, linewidth=1)
    axes.set_xlabel("return in the dream")
    axes.set_ylabel("return in reality")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def temperatures_figure(
    rows: Mapping[str, Mapping[str, Any]], printed: Sequence[tuple[float, float, float]] = ()
) -> Figure:
    """Dreamed and real return by the temperature that agents were trained at, with the range of their seeds.

    Args:
        rows: As written; those of the switch "temperature" and the row they are measured against are drawn.
        printed: Temperature, dreamed and real return of others, drawn in grey.

    Raises:
        LookupError: No such rows.
    """
    chosen = [row for row in rows.values() if row["switch"] == "temperature"]
    if not chosen:
        raise LookupError("the study has no rows of the switch temperature")
    bases = {row["against"] for row in chosen}
    chosen = sorted(chosen + [rows[name] for name in bases if name in rows], key=lambda row: row["temperature"])
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    places = [row["temperature"] for row in chosen]
    for seeds, mean, colour, label in (
        ("dreamed", "dream_mean", DREAM_COLOUR, "in the dream it was trained in"),
        ("real", "mean", REAL_COLOUR, "in reality"),
    ):
        reach = list(zip(*(_reach(row[seeds], row[mean]) for row in chosen), strict=True))
        axes.errorbar(places, [row[mean] for row in chosen], yerr=reach, fmt="o-", color=colour, label=label)
    for column, line in ((1, "--"), (2, "-")):
        if printed:
            values = [row[column] for row in printed]
            label = f"Ha & Schmidhuber 2018, {'dream' if column == 1 else 'reality'}"
            axes.plot([row[0] for row in printed], values, line, color=NEUTRAL_COLOUR, linewidth=1, label=label)
    axes.set_xlabel("temperature of training")
    axes.set_ylabel("return")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def study_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows as a Markdown table: each seed's real return, and the difference to the row it is measured against."""
    heads = ("switch", "setting", "dreamed", "real", "real, seed by seed", "difference [95%]")
    return table(heads, [_cells(row) for row in rows.values()])


def _cells(row: Mapping[str, Any]) -> list[str]:
    apart = ""
    if "difference" in row:
        low, high = row["difference_ci95"]
        apart = f"{row['difference']:+.0f} [{low:+.0f}, {high:+.0f}]"
        if row["against"] != "base":
            apart += f" to {row['against']}"
    seeds = ", ".join(f"{value:.0f}" for value in row["real"])
    return [row["switch"], row["value"], f"{row['dream_mean']:.0f}", f"{row['mean']:.0f}", seeds, apart]


def _reach(values: Sequence[float], mean: float) -> tuple[float, float]:
    """How far the lowest and the highest lie from the mean."""
    return mean - min(values), max(values) - mean
