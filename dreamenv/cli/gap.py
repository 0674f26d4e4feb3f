"""`dreamenv gap`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile, Seed, Workers, dream_ids
from dreamenv.cli.overview import MEASURE

if TYPE_CHECKING:
    from dreamenv.scoring.open_loop import OpenLoopRow

_TITLES = ("dreamed actions", "latent error", "latent, no change", "pixel error", "pixel, no change")


@app.command(rich_help_panel=MEASURE)
def gap(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream, and the model the agent sees through."
        ),
    ],
    agent: Annotated[
        str | None, typer.Option(help="Agent's path or id, planner:cem, random; the shipped one by default.")
    ] = None,
    algo: Annotated[str | None, typer.Option(help="Algorithm of stable-baselines3 that saved --agent.")] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Real episodes.")] = 20,
    recorded: Annotated[
        Path | None,
        typer.Option(
            callback=places.folder,
            metavar="FOLDER",
            help="Keep the episodes there, or measure on those that it holds, so that models can be compared.",
        ),
    ] = None,
    horizons: Annotated[str, typer.Option(help="After how many dreamed actions to compare.")] = "1,5,15,50",
    samples: Annotated[int, typer.Option(min=1, help="Dreams per moment; their mean is the prediction.")] = 16,
    html: Annotated[
        Path | None, typer.Option(callback=places.file, metavar="FILE", help="Write a page with figures to this file.")
    ] = None,
    json_file: JsonFile = None,
    out: Annotated[
        Path | None, typer.Option(callback=places.folder, help="Folder to draw the figures into, as PNG and SVG.")
    ] = None,
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Measure how wrong a dream is, on fresh real episodes of an agent.

    Example: dreamenv gap DreamCarRacing-v0 --json gap.json --html gap.html
    """
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress
    from dreamenv.errors import ConfigurationError
    from dreamenv.figures.canvas import check_drawing, save_figures
    from dreamenv.figures.gap import gap_figures, summarise_gap, verdict, write_gap_report
    from dreamenv.scoring.gap import GapOptions, dream_gap

    try:
        steps = [int(part) for part in horizons.split(",")]
    except ValueError as error:
        raise ConfigurationError(f"--horizons {horizons}: expected whole numbers like 1,5,15,50") from error
    if html is not None or out is not None:
        check_drawing()
    output = Output(json_file)
    bar = Progress("gap", episodes, "episode")
    found = dream_gap(
        model,
        agent,
        GapOptions(horizons=steps, samples=samples),
        algo=algo,
        episodes=episodes,
        recorded=recorded,
        seed=seed,
        workers=workers,
        progress=bar.update,
        report=output.line,
    )
    bar.close()
    output.line(verdict(found))
    output.line(summarise_gap(found))
    output.line(f"reward R² one step ahead: {found.reward_r2:.3f}")
    precision, recall = (_shown(value) for value in (found.termination_precision, found.termination_recall))
    output.line(f"ends: precision {precision}, recall {recall} at probability {found.termination_threshold:.3g}")
    output.table(_TITLES, [_cells(row) for row in found.open_loop], numbers=_TITLES)
    output.figures(found.to_json())
    if html is not None:
        output.line(write_gap_report(html, found))
    if out is not None:
        for file in save_figures(gap_figures(found), out):
            output.line(file)


def _cells(row: OpenLoopRow) -> tuple[str, ...]:
    errors = row.latent_mse, row.latent_mse_no_change, row.pixel_mse, row.pixel_mse_no_change
    return str(row.horizon), *("-" if error is None else f"{error:.4g}" for error in errors)


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"
