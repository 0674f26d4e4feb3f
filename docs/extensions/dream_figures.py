"""Figures of the pages, drawn from stored results when the site is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dream_facts import table

from dreamenv import registry
from dreamenv.bundle_config import read_config
from dreamenv.figures.canvas import new_figure
from dreamenv.figures.gap import calibration_figure, open_loop_error_figure, return_comparison_figure, verdict
from dreamenv.scoring.gap import Gap
from dreamenv.scoring.open_loop import OpenLoopRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def read_gap(content: dict[str, Any]) -> Gap:
    """The `Gap` of what `dreamenv gap --json` writes."""
    fields = {name: content[name] for name in Gap.__dataclass_fields__}
    return Gap(**(fields | {"open_loop": tuple(OpenLoopRow(**row) for row in content["open_loop"])}))


def gap_figures(content: dict[str, Any]) -> list[tuple[Figure, str]]:
    """The figures of a gap, each with the sentence below it."""
    gap = read_gap(content)
    precision, recall = (
        "undefined" if value is None else f"{value:.2f}"
        for value in (gap.termination_precision, gap.termination_recall)
    )
    drawn = [
        (
            return_comparison_figure(gap),
            f"Left: {len(gap.dream_returns)} dreams (mean {gap.dream_return:.0f}) and {len(gap.real_returns)} real "
            f"episodes (mean {gap.real_return:.0f}) of the same agent. Right: what M predicts along each real episode, "
            f"a step ahead (mean {gap.predicted_return:.0f}), against what the episode returned.",
        )
    ]
    if len(gap.reward_calibration) > 1:
        drawn += [
            (
                calibration_figure(gap.reward_calibration, "reward"),
                f"The mean reward of real steps, by the reward that M predicted; groups of equal size. R² of single "
                f"steps {gap.reward_r2:.2f}.",
            )
        ]
    if gap.real_ends:
        drawn += [
            (
                calibration_figure(gap.termination_calibration, "chance of an end", logarithmic=True),
                f"How often a step ends the real episode, by the probability that M gave it. {gap.real_ends} of "
                f"{len(gap.seeds)} real episodes ended by the task; of the steps that M calls an end, a share of "
                f"{precision} is one (precision), and of the ends M foresees a share of {recall} (recall).",
            )
        ]
    return [
        *drawn,
        (
            open_loop_error_figure(gap.open_loop),
            "Errors of dreams under the real actions. *No change* predicts that the present stays as it is. *V alone* "
            "draws what really followed; no dream can be expected to be better.",
        ),
    ]


def gap_verdict(content: dict[str, Any]) -> str:
    """How wrong the dream is, in a sentence."""
    return verdict(read_gap(content))


def gap_table(content: dict[str, Any]) -> str:
    """Open-loop errors by horizon."""
    gap = read_gap(content)
    keys = ("latent_mse", "latent_mse_no_change", "pixel_mse", "pixel_mse_no_change", "pixel_mse_reconstruction")
    rows = [
        [
            str(row.horizon),
            str(row.moments),
            *("" if (value := getattr(row, key)) is None else f"{value:.4f}" for key in keys),
        ]
        for row in gap.open_loop
    ]
    heads = ("actions", "moments", "latent error", "no change", "pixel error", "no change", "V alone")
    return table(heads, rows)


def temperature_figure(rows: Sequence[dict[str, Any]], name: str) -> tuple[Figure, str]:
    """Dreamed returns by temperature, with the real scores that the bundle records as level lines."""
    figure = new_figure(7.0, 3.6)
    axes = figure.subplots()
    provenance = read_config(registry.find(name).checkpoint)["provenance"]
    for agent, key, colour in (("shipped", "score", "#d62728"), ("random", "baseline", "#7f7f7f")):
        own = [row for row in rows if row["agent"] == agent]
        axes.errorbar(
            [row["temperature"] for row in own],
            [row["mean"] for row in own],
            yerr=[1.96 * row["standard_error"] for row in own],
            fmt="o-",
            color=colour,
            label=f"{agent} agent in the dream",
        )
        axes.axhline(provenance[key]["mean"], color=colour, linestyle="--", linewidth=1, label=f"{agent}: reality")
    axes.set_xlabel("temperature")
    axes.set_ylabel("return")
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    dreams = rows[0]["dreams"]
    text = (
        f"Returns of {dreams} dreams at each temperature, with the 95% interval of their mean; dashed, the real score "
        f"of the same agent ({provenance['score']['episodes']} episodes)."
    )
    return figure, text


def dreamed_and_real_figure(rows: Sequence[dict[str, Any]]) -> tuple[Figure, str]:
    """Each trained agent's mean return in the dream it was trained in, against the one in reality.

    A dream of which only one agent has both is left out: a single point compares nothing. The dreamed axis ends at what
    the dreams promise, so that an agent far below the line is seen as such.
    """
    names = [row["dream"] for row in rows]
    dreams = sorted({name for name in names if names.count(name) > 1}, reverse=True)
    figure = new_figure(4.6 * len(dreams), 4.4)
    for axes, dream in zip(figure.subplots(1, len(dreams), squeeze=False)[0], dreams, strict=True):
        own = [row for row in rows if row["dream"] == dream]
        values = [value for row in own for value in (row["dreamed"], row["real"])]
        ends = [min(values), max(values)]
        axes.fill_between(ends, ends, [ends[0], ends[0]], color="#d62728", alpha=0.06, linewidth=0)
        axes.plot(ends, ends, "--", color="#7f7f7f", linewidth=1)
        axes.plot([row["dreamed"] for row in own], [row["real"] for row in own], "o", color="#d62728", markersize=4)
        for row in own:
            # Towards the middle, so that no name leaves the axes
            left = row["dreamed"] > sum(axes.get_xlim()) / 2
            axes.annotate(
                str(row["number"]),
                (row["dreamed"], row["real"]),
                (-4 if left else 4, 3),
                textcoords="offset points",
                ha="right" if left else "left",
                fontsize=6.5,
            )
        axes.set_title(dream, fontsize=9)
        axes.set_xlabel("return in the dream")
        axes.set_ylabel("return in reality")
        axes.grid(alpha=0.3)
    text = (
        f"The {sum(name in dreams for name in names)} agents whose dreamed and real return are both known. A number is "
        "the agent's row in the [experiments](experiments.md), where a row can have several agents, such as the rounds "
        "of a loop; a name is a published figure (`dreamenv reproduce --list`). On the dashed line reality pays what "
        "the dream promised. In the red area it pays less."
    )
    return figure, text
