"""The gap between dream and reality as one HTML page that needs no other file."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dreamenv.figures.canvas import DREAM_COLOUR, NEUTRAL_COLOUR, REAL_COLOUR, new_figure
from dreamenv.figures.page import NUMBER, TableRow, svg, write_page
from dreamenv.scoring.gap import Gap
from dreamenv.scoring.open_loop import OpenLoopRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# A return within this share of another is about the same
_NEAR = 0.05
_LATENT = {"dream": "latent_mse", "one sample": "latent_mse_sample", "no change": "latent_mse_no_change"}
_PIXELS = {
    "dream": "pixel_mse",
    "one sample": "pixel_mse_sample",
    "no change": "pixel_mse_no_change",
    "frame kept": "pixel_mse_frame_no_change",
    "V alone": "pixel_mse_reconstruction",
}


def write_gap_report(path: str | Path, gap: Gap) -> Path:
    """Write the page of a gap, atomically; the figures are in it as SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    pixels = any(row.pixel_mse is not None for row in gap.open_loop)
    errors = [("Error of the latents", *_error_table(gap, _LATENT))]
    errors += [("Error of the pictures", *_error_table(gap, _PIXELS))] if pixels else []
    return write_page(
        path,
        "gap",
        title=f"{gap.real_id}: how wrong is the dream?",
        verdict=verdict(gap),
        summary=summarise_gap(gap),
        **{name: svg(figure) for name, figure in gap_figures(gap).items()},
        reward_r2=f"{gap.reward_r2:.3f}",
        ends_note=_ends_note(gap),
        errors=errors,
        open_loop_note=_open_loop_note(gap, pixels),
    )


def gap_figures(gap: Gap) -> dict[str, Figure]:
    """The page's figures: "returns", "rewards", "ends" and "open_loop_errors"."""
    return {
        "returns": return_comparison_figure(gap),
        "rewards": calibration_figure(gap.reward_calibration, "reward"),
        "ends": calibration_figure(gap.termination_calibration, "chance of an end", logarithmic=True),
        "open_loop_errors": open_loop_error_figure(gap.open_loop),
    }


def verdict(gap: Gap) -> str:
    """How wrong the dream is, in a sentence or two: what it promises, and whether single steps or long dreams err."""
    dream, real = gap.dream_return, gap.real_return
    if abs(dream - real) <= _NEAR * abs(real):
        return f"The dream promises about what reality pays: {dream:.0f} in the dream, {real:.0f} in reality."
    if real > 0 and dream > 0:
        promise = f"The dream promises {dream / real:.1f} times what reality pays"
    else:
        promise = f"The dream promises {abs(dream - real):.0f} {'more' if dream > real else 'less'} than reality pays"
    chance = " With so few episodes it may be chance." if abs(dream - real) < 2 * _standard_error(gap) else ""
    return f"{promise}{_cause(gap)}.{chance}"


def _cause(gap: Gap) -> str:
    """Whether single steps are wrong, by what is predicted along the real episodes, or dreams alone."""
    real, off = gap.real_return, gap.predicted_return - gap.real_return
    steps = f"along real episodes M predicts {gap.predicted_return:.0f}, and they return {real:.0f}"
    differences = [predicted - paid for predicted, paid in zip(gap.predicted_returns, gap.real_returns, strict=True)]
    if abs(off) <= _NEAR * abs(real):
        return f"; single steps are right ({steps}), so long dreams drift"
    if abs(off) < 2 * math.sqrt(_variance_of_mean(differences)):
        return f"; whether single steps are right these episodes do not tell ({steps})"
    if (off > 0) == (gap.dream_return > real):
        return f"; single steps are wrong already ({steps})"
    return f", while single steps err the other way ({steps})"


def _standard_error(gap: Gap) -> float:
    """Of the difference between the mean dreamed and the mean real return."""
    return math.sqrt(_variance_of_mean(gap.dream_returns) + _variance_of_mean(gap.real_returns))


def _variance_of_mean(sample: Sequence[float]) -> float:
    return statistics.variance(sample) / len(sample) if len(sample) > 1 else 0.0


def summarise_gap(gap: Gap) -> str:
    """The returns in one sentence."""
    return (
        f"Agent {gap.agent}: {gap.dream_return:.1f} in the dream ({len(gap.dream_returns)} dreams), "
        f"{gap.real_return:.1f} on the real {gap.real_id} ({len(gap.seeds)} episodes, {gap.played_frames:,} frames, on "
        f"evaluation seeds), {gap.predicted_return:.1f} predicted by the memory model along those real episodes."
    )


def return_comparison_figure(gap: Gap) -> Figure:
    """Dreamed and real returns side by side, and predicted against real returns of the real episodes."""
    figure = new_figure(7.0, 3.0)
    left, right = figure.subplots(1, 2)
    left.boxplot([gap.dream_returns, gap.real_returns], widths=0.5)
    left.set_xticks([1, 2], ["dream", "real"])
    left.set_ylabel("return")
    _diagonal(right, [*gap.real_returns, *gap.predicted_returns])
    right.plot(gap.real_returns, gap.predicted_returns, "o", color=DREAM_COLOUR, markersize=4, alpha=0.7)
    right.set_xlabel("real return of the episode")
    right.set_ylabel("predicted along it")
    return figure


def calibration_figure(rows: Sequence[dict[str, float]], what: str, *, logarithmic: bool = False) -> Figure:
    """Mean predicted against mean real value by bins; a calibrated model lies on the line."""
    figure = new_figure(4.6, 3.4)
    axes = figure.subplots()
    predicted, real = [row["predicted"] for row in rows], [row["real"] for row in rows]
    _diagonal(axes, [*predicted, *real])
    axes.plot(predicted, real, "o-", color=DREAM_COLOUR, markersize=4)
    if logarithmic:
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("symlog", linthresh=1e-3)
    axes.set_xlabel(f"predicted {what}")
    axes.set_ylabel(f"real {what}")
    return figure


def open_loop_error_figure(rows: Sequence[OpenLoopRow]) -> Figure:
    """Errors of latents, and of pictures where there are some, by horizon."""
    pixels = any(row.pixel_mse is not None for row in rows)
    figure = new_figure(7.0 if pixels else 4.6, 3.2)
    for axes, kind in zip(
        figure.subplots(1, 2 if pixels else 1, squeeze=False)[0], ("latent_mse", "pixel_mse"), strict=False
    ):
        curves = [("", "dream (mean of samples)", DREAM_COLOUR, "o-"), ("_sample", "one sample", DREAM_COLOUR, ".:")]
        curves += [("_no_change", "no change", NEUTRAL_COLOUR, "s--")]
        curves += [("_reconstruction", "V alone", REAL_COLOUR, "--")] if kind == "pixel_mse" else []
        for suffix, label, colour, style in curves:
            points = [(row.horizon, getattr(row, kind + suffix)) for row in rows if row.moments]
            axes.plot(*zip(*points, strict=True) if points else ([], []), style, color=colour, label=label)
        axes.set_xlabel("dreamed actions")
        axes.set_ylabel(kind.replace("_mse", " error (MSE)"))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    return figure


def _diagonal(axes: Axes, values: Sequence[float]) -> None:
    ends = [min(values), max(values)]
    axes.plot(ends, ends, "--", color=NEUTRAL_COLOUR, linewidth=1)
    axes.grid(alpha=0.3)


def _error_table(gap: Gap, fields: dict[str, str]) -> tuple[list[tuple[str, str]], list[TableRow]]:
    """Columns and rows of the errors in `fields`, by their titles."""
    columns = [(name, NUMBER) for name in ("actions", "moments", *fields)]
    return columns, [_table_row(row, list(fields.values())) for row in gap.open_loop]


def _table_row(row: OpenLoopRow, fields: Sequence[str]) -> TableRow:
    values = (getattr(row, field) for field in fields)
    shown = ("-" if value is None else f"{value:.4g}" for value in values)
    return TableRow((str(row.horizon), str(row.moments), *shown))


def _ends_note(gap: Gap) -> str:
    shown = {
        name: "undefined" if value is None else f"{value:.2f}"
        for name, value in (("precision", gap.termination_precision), ("recall", gap.termination_recall))
    }
    return (
        f"{gap.real_ends} of {len(gap.seeds)} real episodes ended by the task. M foresees an end where it gives a "
        f"calibrated probability above {gap.termination_threshold:.3g}: precision {shown['precision']}, recall "
        f"{shown['recall']}. An end counts at its very step only."
    )


def _open_loop_note(gap: Gap, pixels: bool) -> str:
    note = (
        f"Dreams at temperature {gap.open_loop_temperature:g}. The dream's prediction is the mean of {gap.samples} "
        "sampled dreams. Latent errors are in units of M's scale, against V's latent of what followed; no change "
        "predicts the present one."
    )
    if pixels:
        note += (
            " Pixel errors are in [0, 1], against the real frames: no change keeps V's picture of the present, frame "
            "kept keeps the present frame itself, and V alone draws what followed; no dream can be expected to be "
            "better."
        )
    return note
