"""Plots of what docs/exploitation_study.py has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dream_facts import table

from dreamenv.figures.canvas import DREAM_COLOUR, NEUTRAL_COLOUR, REAL_COLOUR, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def study_figure(rows: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Dreamed and real return of each row, side by side: small points are seeds, large ones their means."""
    figure = new_figure(7.4, 1.2 + 0.22 * len(rows))
    axes = figure.subplots()
    places = range(len(rows))
    for place, row in zip(places, rows.values(), strict=True):
        axes.plot([row["dream_mean"], row["mean"]], [place, place], color=NEUTRAL_COLOUR, linewidth=1, zorder=1)
    for seeds, mean, colour, marker, label in (
        ("dreamed", "dream_mean", DREAM_COLOUR, "o", "in the dream it was trained in"),
        ("real", "mean", REAL_COLOUR, "D", "in reality"),
    ):
        every = [(value, place) for place, row in zip(places, rows.values(), strict=True) for value in row[seeds]]
        axes.scatter(*zip(*every, strict=True), s=9, color=colour, marker=marker, alpha=0.6, linewidths=0, zorder=2)
        axes.scatter(
            [row[mean] for row in rows.values()], places, s=40, color=colour, marker=marker, label=label, zorder=3
        )
    axes.set_yticks(places, [_name(row) for row in rows.values()], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("return: the mean, and each seed")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    return figure


def _name(row: Mapping[str, Any]) -> str:
    return row["switch"] if row["against"] is None else f"{row['switch']}: {row['value']}"


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
