"""The gap between dream and reality as one HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from dreamenv.figures.canvas import new_figure
from dreamenv.figures.report import svg
from dreamenv.files import write_text
from dreamenv.scoring.gap import Gap
from dreamenv.scoring.open_loop import OpenLoopRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_REAL, _DREAM, _IDLE = "#1f77b4", "#d62728", "#7f7f7f"

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c22; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #ddd; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
p.note { color: #555; font-size: .9rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$summary</p>
<h2>Returns</h2>
$returns
<p class="note">Left: whole dreams and real episodes of the same agent. Right: for each real episode, the sum of the
rewards that M predicts a step ahead, beside what it really returned; an agent that exploits the model lies far above
the line.</p>
<h2>Rewards, a step ahead</h2>
$rewards
<p class="note">R² over all steps of the real episodes: $reward_r2. Steps are put into ten equal bins by predicted
reward.</p>
<h2>Ends, a step ahead</h2>
$ends
<p class="note">$ends_note</p>
<h2>Open-loop dreams</h2>
$open_loop
<table>
<thead><tr>$groups</tr><tr>$columns</tr></thead>
<tbody>
$rows
</tbody>
</table>
<p class="note">$open_loop_note</p>
</body>
</html>
"""
)


def write_gap_report(path: str | Path, gap: Gap) -> Path:
    """Write the page of a gap, atomically; the figures are in it as SVG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    path = Path(path)
    pixels = any(row.pixel_mse is not None for row in gap.open_loop)
    columns = ["actions", "moments", "dream", "one sample", "no change"]
    columns += ["dream", "one sample", "no change", "frame kept", "V alone"] if pixels else []
    groups = [("latent error", 3), *([("pixel error", 5)] if pixels else [])]
    figures = gap_figures(gap)
    content = _PAGE.substitute(
        title=escape(f"{gap.real_id}: how wrong is the dream?"),
        summary=escape(summarise_gap(gap)),
        returns=svg(figures["returns"]),
        rewards=svg(figures["rewards"]),
        reward_r2=f"{gap.reward_r2:.3f}",
        ends=svg(figures["ends"]),
        ends_note=escape(_ends_note(gap)),
        open_loop=svg(figures["open_loop_errors"]),
        groups="<th></th><th></th>" + "".join(f'<th colspan="{width}">{name}</th>' for name, width in groups),
        columns="".join(f"<th>{escape(name)}</th>" for name in columns),
        rows="\n".join(_table_row(row, pixels) for row in gap.open_loop),
        open_loop_note=escape(_open_loop_note(gap, pixels)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, content)
    return path


def gap_figures(gap: Gap) -> dict[str, Figure]:
    """The page's figures: "returns", "rewards", "ends" and "open_loop_errors"."""
    return {
        "returns": returns_figure(gap),
        "rewards": calibration_figure(gap.reward_calibration, "reward"),
        "ends": calibration_figure(gap.termination_calibration, "chance of an end", logarithmic=True),
        "open_loop_errors": open_loop_figure(gap.open_loop),
    }


def summarise_gap(gap: Gap) -> str:
    """The returns in one sentence."""
    return (
        f"Agent {gap.agent}: {gap.dream_return:.1f} in the dream ({len(gap.dream_returns)} dreams), "
        f"{gap.real_return:.1f} on the real {gap.real_id} ({len(gap.seeds)} episodes, {gap.played_frames:,} frames, on "
        f"evaluation seeds), {gap.predicted_return:.1f} predicted by M along those real episodes."
    )


def returns_figure(gap: Gap) -> Figure:
    """Dreamed and real returns side by side, and predicted against real returns of the real episodes."""
    figure = new_figure(7.0, 3.0)
    left, right = figure.subplots(1, 2)
    left.boxplot([gap.dream_returns, gap.real_returns], widths=0.5)
    left.set_xticks([1, 2], ["dream", "real"])
    left.set_ylabel("return")
    _diagonal(right, [*gap.real_returns, *gap.predicted_returns])
    right.plot(gap.real_returns, gap.predicted_returns, "o", color=_DREAM, markersize=4, alpha=0.7)
    right.set_xlabel("real return of the episode")
    right.set_ylabel("predicted along it")
    return figure


def calibration_figure(rows: Sequence[dict[str, float]], what: str, *, logarithmic: bool = False) -> Figure:
    """Mean predicted against mean real value by bins; a calibrated model lies on the line."""
    figure = new_figure(4.6, 3.4)
    axes = figure.subplots()
    predicted, real = [row["predicted"] for row in rows], [row["real"] for row in rows]
    _diagonal(axes, [*predicted, *real])
    axes.plot(predicted, real, "o-", color=_DREAM, markersize=4)
    if logarithmic:
        for scale in (axes.set_xscale, axes.set_yscale):
            scale("symlog", linthresh=1e-3)
    axes.set_xlabel(f"predicted {what}")
    axes.set_ylabel(f"real {what}")
    return figure


def open_loop_figure(rows: Sequence[OpenLoopRow]) -> Figure:
    """Errors of latents, and of pictures where there are some, by horizon."""
    pixels = any(row.pixel_mse is not None for row in rows)
    figure = new_figure(7.0 if pixels else 4.6, 3.2)
    for axes, kind in zip(
        figure.subplots(1, 2 if pixels else 1, squeeze=False)[0], ("latent_mse", "pixel_mse"), strict=False
    ):
        curves = [("", "dream (mean of samples)", _DREAM, "o-"), ("_sample", "one sample", _DREAM, ".:")]
        curves += [("_no_change", "no change", _IDLE, "s--")]
        curves += [("_reconstruction", "V alone", _REAL, "--")] if kind == "pixel_mse" else []
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
    axes.plot(ends, ends, "--", color=_IDLE, linewidth=1)
    axes.grid(alpha=0.3)


def _table_row(row: OpenLoopRow, pixels: bool) -> str:
    values = [row.latent_mse, row.latent_mse_sample, row.latent_mse_no_change]
    if pixels:
        values += [row.pixel_mse, row.pixel_mse_sample, row.pixel_mse_no_change, row.pixel_mse_frame_no_change]
        values += [row.pixel_mse_reconstruction]
    cells = [str(row.horizon), str(row.moments), *("-" if value is None else f"{value:.4g}" for value in values)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _ends_note(gap: Gap) -> str:
    shown = {
        name: "undefined" if value is None else f"{value:.2f}"
        for name, value in (("precision", gap.termination_precision), ("recall", gap.termination_recall))
    }
    return (
        f'{gap.real_ends} of {len(gap.seeds)} real episodes ended by the task. M says "it ends" above a calibrated '
        f"probability of {gap.termination_threshold:.3g}: precision {shown['precision']}, recall {shown['recall']}, "
        "an end counting at its very step only."
    )


def _open_loop_note(gap: Gap, pixels: bool) -> str:
    note = (
        "Dreams from moments in the real episodes, under the real actions, at temperature "
        f"{gap.open_loop_temperature:g}. The dream's prediction is the mean of {gap.samples} sampled dreams. Latent "
        "errors are in units of M's scale, against V's latent of what followed; no change predicts the present one."
    )
    if pixels:
        note += (
            " Pixel errors are in [0, 1], against the real frames: no change keeps V's picture of the present, frame "
            "kept the present frame itself, and V alone draws what followed, below which no dream can be expected."
        )
    return note
