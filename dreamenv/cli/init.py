"""`dreamenv init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile, Seed
from dreamenv.cli.overview import TRAIN


@app.command(rich_help_panel=TRAIN)
def init(
    real: Annotated[str, typer.Argument(metavar="GYMNASIUM-ID", help="Such as Pendulum-v1 or my_env:MyEnv-v0.")],
    file: Annotated[
        Path | None,
        typer.Option(callback=places.file, help="Preset to write.", show_default="the environment's name, .yaml"),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Random actions to try it with.")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Look at an environment and write a preset file for it, with what was found as comments.

    The file has the form of registry.yaml. Edit it, then train with it: dreamenv train --config FILE

    Example: dreamenv init my_env:MyEnv-v0 --file my_env.yaml
    """
    from dreamenv.cli.output import Output
    from dreamenv.cli.presets import default_run
    from dreamenv.data.survey import survey
    from dreamenv.errors import ConfigurationError
    from dreamenv.files import writable_folder, write_text
    from dreamenv.types import RealEnvSpec
    from dreamenv.workflows.preset_file import preset_text

    output = Output(json_file)
    spec = RealEnvSpec(real)
    target = Path(f"{default_run(spec).name}.yaml") if file is None else file
    if target.exists() and not overwrite:
        raise ConfigurationError(f"{target} is there already; give another --file, or --overwrite")
    writable_folder(target.parent)
    found = survey(spec, steps=steps, seed=seed)
    write_text(target, preset_text(found))
    for line in found.lines:
        output.line(line)
    output.line(f"wrote {target}")
    if found.refused:
        output.line(f"change {target} first, then: dreamenv train --config {target}")
    else:
        output.next("train", "--config", target)
    output.figures({"file": str(target), **found.to_json()})
