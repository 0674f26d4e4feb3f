"""`dreamenv publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import dream_ids
from dreamenv.cli.overview import PUBLISH


@app.command(rich_help_panel=PUBLISH)
def publish(
    name: Annotated[str, typer.Argument(metavar="ID", autocompletion=dream_ids, help="A dream's id in the registry.")],
    run: Annotated[Path, typer.Option(help="Run directory with bundle/ and agent/.")],
    score: Annotated[Path, typer.Option(help="What `dreamenv eval RUN/bundle --agent RUN/agent --json` wrote.")],
    baseline: Annotated[Path, typer.Option(help="The same of `--agent random`.")],
    registry_file: Annotated[Path, typer.Option("--registry", help="registry.yaml to record hashes in.")] = Path(
        "registry.yaml"
    ),
    commands: Annotated[Path | None, typer.Option(help="Text file with the commands that made the run.")] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Keep the weights in float16; refused where that changes the dream.")
    ] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", help="License of the weights, for the model card.")
    ] = None,
) -> None:
    """Put a run's bundle and agent where the registry looks for them.

    A model card and sha256 sums are written too.

    Example: dreamenv publish DreamDoom-v0 --run runs/doom --score doom.json --baseline doom-random.json
    """
    from dreamenv.schema import read_any
    from dreamenv.workflows.publish import publish_bundle

    target = publish_bundle(
        name,
        run,
        registry_file,
        score=read_any(score),
        baseline=read_any(baseline),
        commands=commands.read_text(encoding="utf-8") if commands else "",
        half=half,
        license_name=license_name,
    )
    print(f"published {name} in {target}; sha256 sums recorded in {registry_file}")
