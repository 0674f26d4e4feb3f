"""Curves of how a training and the rounds of a loop went, read from run directories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamenv.bundle_config import read_config
from dreamenv.errors import BundleError, missing_extra
from dreamenv.figures.canvas import DREAM_COLOUR, NEUTRAL_COLOUR, REAL_COLOUR, new_figure
from dreamenv.schema import read_any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = list[tuple[int, float]]

_PARTS = {"train": DREAM_COLOUR, "held_out": REAL_COLOUR}
# Scalars that are drawn with words of their own, and then alone of their stage: stage and name to title and unit
_WORDS = {
    ("vision", "reconstruction"): ("V: reconstruction", "nats per picture"),
    ("vision", "kl"): ("V: KL divergence", "nats per picture"),
    ("memory", "latent_nll"): ("M: next latent", "nats per dimension"),
    ("memory", "reward"): ("M: reward", "loss of its head"),
}
_NOT_SHOWN = {"gradient_norm"}
_MOST_SHOWN = 8
_ROUND_KEYS = {"number", "real_frames", "dream_mean", "real_mean", "real_std"}


def read_rounds(run_dir: str | Path) -> list[dict[str, Any]]:
    """The table of rounds of a loop: rounds.json of its folder, or the record in a bundle that it made.

    Raises:
        BundleError: It is missing or not such a table.
    """
    file = Path(run_dir) / "rounds.json"
    if not file.exists() and (Path(run_dir) / "config.json").exists():
        file = Path(run_dir) / "config.json"
        table = read_config(Path(run_dir))["provenance"].get("rounds")
        if table is None:
            raise BundleError(f"{file}: holds no table of rounds; this model was not made by `dreamenv loop`")
    else:
        try:
            table = read_any(file)
        except BundleError as error:
            raise BundleError(f"{error}; expected a folder of `dreamenv loop`") from error
    if not isinstance(table, list) or not all(isinstance(row, dict) and row.keys() >= _ROUND_KEYS for row in table):
        raise BundleError(f"{file}: not a table of rounds; each needs {', '.join(sorted(_ROUND_KEYS))}")
    return table


def read_scalars(run_dir: str | Path) -> dict[str, Curve]:
    """All TensorBoard scalars below `run_dir`'s tensorboard folder as (step, value), by tag; none without the folder.

    Where a run was continued, the later file's value of a step holds.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise missing_extra("tensorboard", "train") from error
    found: dict[str, dict[int, float]] = {}
    for file in sorted(Path(run_dir).glob("tensorboard/events.out.tfevents.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return {tag: sorted(curve.items()) for tag, curve in found.items()}


def training_figure(scalars: Mapping[str, Curve], heading: str = "") -> Figure | None:
    """What a recipe recorded of its stages (tags `stage/train/name` and `stage/held_out/name`) by its steps, eight
    curves at most; None where there are none."""
    shown = _recorded(scalars)
    if not shown:
        return None
    figure = new_figure(3.6 * len(shown), 3.0)
    for axes, ((stage, name), curves) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for part, colour in _PARTS.items():
            if part in curves:
                # A run that has logged once is a point
                marker = "o" if len(curves[part]) == 1 else ""
                axes.plot(*zip(*curves[part], strict=True), marker=marker, color=colour, label=part.replace("_", " "))
        title, unit = _WORDS.get((stage, name), (f"{stage}: {name.replace('_', ' ')}", ""))
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("steps")
        axes.set_ylabel(unit, fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.suptitle(heading, fontsize=10)
    return figure


def _recorded(scalars: Mapping[str, Curve]) -> list[tuple[tuple[str, str], dict[str, Curve]]]:
    """Curves of training and held-out data by stage and name, those with words of their own first."""
    found: dict[tuple[str, str], dict[str, Curve]] = {}
    for tag, curve in scalars.items():
        stage, part, name = tag.split("/", 2) if tag.count("/") >= 2 else ("", "", "")
        if part in _PARTS and name not in _NOT_SHOWN:
            found.setdefault((stage, name), {})[part] = curve
    worded = {stage for stage, name in found if (stage, name) in _WORDS}
    keys = [key for key in _WORDS if key in found] + [key for key in found if key[0] not in worded]
    return [(key, found[key]) for key in keys[:_MOST_SHOWN]]


def rounds_figure(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Real validation score, with its standard deviation as a band, and dream score by real frames, for each loop."""
    figure = new_figure(7.0, 3.8)
    axes = figure.subplots()
    for index, (name, table) in enumerate(tables.items()):
        colour = f"C{index}"
        frames = [row["real_frames"] for row in table]
        axes.plot(frames, [r["dream_mean"] for r in table], "o:", color=colour, markersize=3, label=f"{name}: dream")
        axes.plot(frames, [r["real_mean"] for r in table], "o-", color=colour, label=f"{name}: real validation")
        low = [r["real_mean"] - r["real_std"] for r in table]
        high = [r["real_mean"] + r["real_std"] for r in table]
        axes.fill_between(frames, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xlabel("real frames")
    axes.set_ylabel("return (band: one standard deviation)")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


def dream_against_real_figure(points: Mapping[str, Sequence[tuple[float, float]]]) -> Figure:
    """Dream score against real score of the same agents, (dream, real) each; who exploits a dream lies to the right.

    The line is where the dream keeps what it promises; a run's points are joined in their order.
    """
    figure = new_figure(4.6, 4.2)
    axes = figure.subplots()
    every = [value for pairs in points.values() for pair in pairs for value in pair]
    axes.plot([min(every), max(every)], [min(every), max(every)], "--", color=NEUTRAL_COLOUR, linewidth=1)
    for name, pairs in points.items():
        axes.plot(*zip(*pairs, strict=True), "o-", markersize=4, linewidth=0.7, alpha=0.8, label=name)
    axes.set_xlabel("score in the dream")
    axes.set_ylabel("real validation score")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
