"""`dreamenv compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile
from dreamenv.cli.overview import MEASURE

_Score = Annotated[Path, typer.Argument(metavar="FILE", help="What `dreamenv eval --json FILE` has written.")]


@app.command(rich_help_panel=MEASURE)
def compare(first: _Score, second: _Score, json_file: JsonFile = None) -> None:
    """Compare two agents' scores episode by episode, on the real episodes that both have played.

    Score both with the same --seed. The difference is the second's return less the first's.

    Example: dreamenv compare before.json after.json
    """
    from dreamenv.cli.output import Output
    from dreamenv.scoring.compare import compare_scores, read_score

    output = Output(json_file)
    found = compare_scores(read_score(first), read_score(second))
    low, high = found.ci95
    output.line(f"{found.real_id}, {found.episodes} episodes that both have played")
    for name, mean in zip(found.agents, found.means, strict=True):
        output.line(f"  {name}: {mean:.1f}")
    output.line(
        f"difference: {found.difference:+.1f}, standard error {found.standard_error:.1f} "
        f"(95% interval {low:+.1f} to {high:+.1f}); higher in {found.higher} episodes, lower in {found.lower}"
    )
    output.figures(found.to_json())
