"""`dreamenv distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile, PartWorkers, Seed, dream_ids
from dreamenv.cli.overview import TRAIN


@app.command(rich_help_panel=TRAIN)
def distill(
    model: Annotated[str, typer.Argument(metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream to plan in.")],
    planner: Annotated[str, typer.Option(help="The expert, such as planner:mcts,simulations=32.")] = "planner:cem",
    out: Annotated[
        Path | None,
        typer.Option(
            callback=places.folder, help="Folder of rounds and agent.", show_default="agent, in the model's run"
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A field of DistillationOptions, such as rounds=3."),
    ] = None,
    workers: PartWorkers = None,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Let a network learn a planner's decisions, let the planner search with the network, and repeat.

    The agent is scored like any other. A planner searches with it as planner:mcts,guide=OUT. The same command continues
    an interrupted run.

    Example: dreamenv distill DreamDoom-v0 --planner planner:mcts,simulations=16 --out runs/doom/distilled
    """
    from dreamenv.agents.distillation import distill as distill_planner
    from dreamenv.agents.options import DistillationOptions
    from dreamenv.cli.output import Output
    from dreamenv.cli.presets import agent_folder
    from dreamenv.cli.progress import Progress, show_scalars
    from dreamenv.options import options_from, parse_settings
    from dreamenv.world_model import WorldModel

    output = Output(json_file)
    beside = agent_folder(model)
    folder = beside if out is None else out
    options = options_from(DistillationOptions, parse_settings(settings or []))
    bars: dict[str, Progress] = {}

    def show(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = Progress(stage, steps, "step", every=5.0)
        bars[stage].update(step, show_scalars(scalars))

    found = distill_planner(
        WorldModel.load(model),
        planner,
        out_dir=folder,
        options=options,
        seed=seed,
        workers=workers,
        progress=show,
        report=output.line,
    )
    for bar in bars.values():
        bar.close()
    for number, scalars in enumerate(found.rounds):
        output.line(
            f"round {number}: the likeliest action is the planner's in {scalars['agreement']:.0%} of unseen decisions, "
            f"{scalars['value_explained']:.0%} of the value's variance is explained"
        )
    output.line(f"agent: {found.file}")
    output.next("eval", model, *([] if beside == folder else ["--agent", folder]))
    output.figures({"agent": str(found.file), "rounds": found.rounds})
