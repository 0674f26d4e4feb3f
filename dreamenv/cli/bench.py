"""`dreamenv bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile, Seed


@app.command()
def bench(
    model: Annotated[
        str, typer.Option("--id", metavar="ID|BUNDLE", help="The dream to measure.")
    ] = "DreamCarRacing-v0",
    seconds: Annotated[float, typer.Option(help="Of measurement a case, and again for its bound.")] = 2.0,
    max_envs: Annotated[int, typer.Option(min=1, help="Largest batch of dreams.")] = 4096,
    real: Annotated[bool, typer.Option(help="Measure the real environment too.")] = True,
    compare: Annotated[bool, typer.Option("--compare", help="Also what could be stepped instead.")] = False,
    compiled: Annotated[bool, typer.Option("--compiled", help="Also the compiled step (needs g++).")] = False,
    training: Annotated[bool, typer.Option("--training", help="Also how fast V and M learn.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Also the growth with latents, mixtures, ...")] = False,
    startup: Annotated[bool, typer.Option("--startup", help="Also imports, gym.make, and memory.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures into this folder.")] = None,
    device: Annotated[str, typer.Option(help="Of the dreams: cpu, cuda, ...")] = "cpu",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Measure steps a second beside the bound: the model's matrix products alone, at the same batch.

    Example: dreamenv bench --id DreamCarRacing-v0 --json bench.json
    """
    from dreamenv.bench.run import REPETITIONS, show_rows
    from dreamenv.bench.run import bench as measure
    from dreamenv.cli.progress import Progress, write_json

    bars: list[Progress] = []

    def on_progress(reached: int, total: int, case: str) -> None:
        if not bars:
            bars.append(Progress("bench", total, "case"))
        bars[0].update(reached, case)

    rows = measure(
        model,
        seconds=seconds,
        most_envs=max_envs,
        real=real,
        compare=compare,
        compiled=compiled,
        training=training,
        curves=curves,
        device=device,
        seed=seed,
        progress=on_progress,
    )
    for bar in bars:
        bar.close()
    print(show_rows(rows))
    print(
        f"medians of {REPETITIONS} interleaved repetitions; a step is one action (of the real environment: see there)"
    )
    if startup:
        _show_startup(model)
    if plot is not None:
        from dreamenv.figures.bench import bench_figures
        from dreamenv.figures.canvas import save_figures

        for file in save_figures(bench_figures(rows), plot):
            print(file)
    write_json(json_file, [row.to_json() for row in rows])


def _show_startup(model: str) -> None:
    from dreamenv.bench.startup import measure_memory, measure_startup

    times = measure_startup(model)
    print(
        f"import gymnasium {times.import_gymnasium:.2f} s, dreamenv {times.import_dreamenv:.2f} s; "
        f"gym.make {times.make_cold:.2f} s cold, {1000 * times.make_warm:.1f} ms warm"
    )
    memory = measure_memory(model)
    print(
        f"memory: {memory.bytes_per_env:,.0f} bytes a dream; grew by {memory.growth / 2**20:.1f} MiB over the second "
        f"{memory.steps:,} steps"
    )
