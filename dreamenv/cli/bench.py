"""`dreamenv bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app


@app.command()
def bench(
    model: Annotated[
        str, typer.Option("--id", metavar="ID|BUNDLE", help="The dream to measure.")
    ] = "DreamCarRacing-v0",
    seconds: Annotated[float, typer.Option(help="Of measurement a case, and again for its bound.")] = 2.0,
    max_envs: Annotated[int, typer.Option(min=1, help="Largest batch of dreams.")] = 4096,
    real: Annotated[bool, typer.Option(help="Measure the real environment too.")] = True,
    device: Annotated[str, typer.Option(help="Of the dreams: cpu, cuda, ...")] = "cpu",
    seed: Annotated[int, typer.Option(min=0, max=4999)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Measure steps a second beside the bound: the model's matrix products alone, at the same batch.

    Example: dreamenv bench --id DreamCarRacing-v0 --json bench.json
    """
    from dreamenv.cli.progress import Progress, write_json
    from dreamenv.evaluation.bench import REPETITIONS, show_rows
    from dreamenv.evaluation.bench import bench as measure

    bars: list[Progress] = []

    def on_progress(reached: int, total: int, case: str) -> None:
        if not bars:
            bars.append(Progress("bench", total, "case"))
        bars[0].update(reached, case)

    rows = measure(
        model, seconds=seconds, most_envs=max_envs, real=real, device=device, seed=seed, progress=on_progress
    )
    for bar in bars:
        bar.close()
    print(show_rows(rows))
    print(
        f"medians of {REPETITIONS} interleaved repetitions; a step is one action (of the real environment: see there)"
    )
    write_json(json_file, [row.to_json() for row in rows])
