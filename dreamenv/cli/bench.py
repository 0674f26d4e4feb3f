"""`dreamenv bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile, Seed, dream_ids
from dreamenv.cli.overview import MEASURE

if TYPE_CHECKING:
    from dreamenv.bench.run import Row
    from dreamenv.cli.output import Output

_TITLES = ("case", "num_envs", "steps/s", "bound/s", "fraction", "real frames/s", "device")


@app.command(rich_help_panel=MEASURE)
def bench(
    model: Annotated[
        str, typer.Argument(metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream to measure.")
    ] = "DreamCarRacing-v0",
    seconds: Annotated[float, typer.Option(help="Seconds to measure each case, and again for its bound.")] = 2.0,
    max_envs: Annotated[int, typer.Option(min=1, help="Largest batch of dreams.")] = 4096,
    real: Annotated[bool, typer.Option(help="Measure the real environment too.")] = True,
    compare: Annotated[bool, typer.Option("--compare", help="Also measure what could be stepped instead.")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also measure the compiled step (needs g++).")] = False,
    training: Annotated[
        bool, typer.Option("--training", help="Also measure how fast the vision model and the memory model learn.")
    ] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Also measure growth with latents, mixtures, ...")] = False,
    startup: Annotated[bool, typer.Option("--startup", help="Also measure imports, gym.make and memory.")] = False,
    out: Annotated[Path | None, typer.Option(callback=places.folder, help="Folder to draw the figures into.")] = None,
    device: Annotated[str, typer.Option(help="Where the dreams run: cpu, cuda, ...")] = "cpu",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure steps per second, and how near they come to the bound of the hardware.

    The bound is the model's matrix products alone, at the same batch.

    Example: dreamenv bench DreamCarRacing-v0 --json bench.json
    """
    from dreamenv.bench.run import REPETITIONS, BenchOptions
    from dreamenv.bench.run import bench as measure
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress

    output = Output(json_file)
    bars: list[Progress] = []

    def on_progress(reached: int, total: int, case: str) -> None:
        if not bars:
            bars.append(Progress("bench", total, "case"))
        bars[0].update(reached, case)

    options = BenchOptions(
        seconds=seconds,
        most_envs=max_envs,
        real=real,
        compare=compare,
        compiled=compiled,
        curves=curves,
        training=training,
    )
    rows = measure(model, options, device=device, seed=seed, progress=on_progress)
    for bar in bars:
        bar.close()
    output.table(_TITLES, [_cells(row) for row in rows], numbers=_TITLES[1:-1])
    output.line(f"medians of {REPETITIONS} interleaved repetitions; a step is one action")
    if startup:
        _show_startup(model, output)
    if out is not None:
        from dreamenv.figures.bench import bench_figures
        from dreamenv.figures.canvas import save_figures

        for file in save_figures(bench_figures(rows), out):
            output.line(file)
    output.figures([row.to_json() for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case,
        f"{row.num_envs:,}",
        f"{row.steps_per_s:,.0f}",
        "-" if row.bound_steps_per_s is None else f"{row.bound_steps_per_s:,.0f}",
        "-" if row.fraction is None else f"{row.fraction:.2f}",
        "" if row.frames_per_s is None else f"{row.frames_per_s:,.0f}",
        row.device,
    )


def _show_startup(model: str, output: Output) -> None:
    from dreamenv.bench.startup import measure_memory, measure_startup

    times = measure_startup(model)
    output.line(
        f"import gymnasium {times.import_gymnasium:.2f} s, dreamenv {times.import_dreamenv:.2f} s; "
        f"gym.make {times.make_cold:.2f} s cold, {1000 * times.make_warm:.1f} ms warm"
    )
    memory = measure_memory(model)
    output.line(
        f"memory: {memory.bytes_per_env:,.0f} bytes a dream; grew by {memory.growth / 2**20:.1f} MiB over the second "
        f"{memory.steps:,} steps"
    )
