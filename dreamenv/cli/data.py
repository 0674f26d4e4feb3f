"""`dreamenv data show` and `dreamenv data check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile
from dreamenv.cli.overview import LOOK, Verbs

if TYPE_CHECKING:
    from dreamenv.data.summary import GroupRow

_TITLES = ("policy", "episodes", "real frames", "return", "least", "most", "length", "terminated", "truncated")

data = typer.Typer(
    name="data",
    cls=Verbs,
    help="Look at collected episodes.\n\nExample: dreamenv data show runs/doom",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
app.add_typer(data, rich_help_panel=LOOK)


@data.command()
def show(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, or a folder of episodes.")],
    out: Annotated[
        Path | None, typer.Option(callback=places.folder, help="Folder of the pictures; RUN/data_plots by default.")
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="How many episodes are on the contact sheets.")] = 8,
    columns: Annotated[int, typer.Option(min=2, help="Pictures of each episode.")] = 10,
    json_file: JsonFile = None,
) -> None:
    """Show what a run has collected.

    A table by policy, and pictures as PNG and SVG: contact sheets, returns, lengths and ends, and which actions were
    taken. Nothing here is random, so there is no seed.

    Example: dreamenv data show runs/doom --out runs/doom/plots --json runs/doom/data.json
    """
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress
    from dreamenv.data.summary import group_rows, read_records, summarise, total_row
    from dreamenv.figures import data as figures
    from dreamenv.figures.canvas import save_figures

    output = Output(json_file)
    store = figures.find_store(run)
    bar = Progress("read", len(store), "episode")
    records = read_records(store, progress=bar.update)
    bar.close()
    action_space = figures.recorded_action_space(run)
    summary = summarise(records, action_space)
    rows = group_rows(records)
    shown = [*rows, total_row(records)] if len(rows) > 1 else rows
    output.table(_TITLES, [_cells(row) for row in shown], numbers=_TITLES[1:])
    drawn = {
        "returns": figures.returns_figure(records),
        "lengths": figures.lengths_figure(records),
        "actions": figures.actions_figure(records, action_space),
    }
    sheets = figures.contact_sheets(figures.spread_over_returns(records, episodes), columns=columns)
    drawn |= {f"contact_sheet_{number}": sheet for number, sheet in enumerate(sheets, start=1)}
    for file in save_figures(drawn, out or run / "data_plots"):
        output.line(file)
    output.figures(summary)


@data.command()
def check(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, or a folder of episodes.")],
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Move damaged files into a folder `damaged`, so that work can go on.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Read every episode of a run and name those that are damaged.

    The status is 1 where damaged episodes stay in place. After `--set-aside` the same `dreamenv collect` plays the
    missing ones again. Nothing here is random, so there is no seed.

    Example: dreamenv data check runs/doom --set-aside
    """
    from dreamenv.cli.output import Output
    from dreamenv.figures.data import find_store

    output = Output(json_file)
    store = find_store(run)
    damaged = store.damaged()
    for file, reason in damaged.items():
        output.line(f"moved to {store.set_aside(file)}: {reason}" if set_aside else reason)
    output.line(f"{len(store)} episodes left, {len(damaged)} damaged" if set_aside else f"{len(damaged)} damaged")
    output.figures({"episodes": len(store), "damaged": {str(file): reason for file, reason in damaged.items()}})
    if damaged and not set_aside:
        raise typer.Exit(1)


def _cells(row: GroupRow) -> tuple[str, ...]:
    return (
        f"{row.part}: {row.policy}" if row.part else row.policy,
        f"{row.episodes:,}",
        f"{row.real_frames:,}",
        f"{row.return_mean:.1f} ± {row.return_std:.1f}",
        f"{row.return_min:.1f}",
        f"{row.return_max:.1f}",
        f"{row.length_mean:.1f}",
        f"{row.terminated + row.both:,}",
        f"{row.truncated + row.both:,}",
    )
