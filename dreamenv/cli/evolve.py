"""`dreamenv evolve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import ActionMapKind, Device, EvolutionWorkers, JsonFile, Optimiser, Seed, dream_ids
from dreamenv.cli.overview import TRAIN
from dreamenv.types import Start


@app.command(rich_help_panel=TRAIN)
def evolve(
    model: Annotated[
        str, typer.Argument(metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream to evolve in.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=places.folder, help="Folder of checkpoint and agent.", show_default="agent, in the model's run"
        ),
    ] = None,
    generations: Annotated[int, typer.Option(min=1, help="Generations in all, those of earlier calls included.")] = 100,
    population: Annotated[int, typer.Option(min=2, help="Candidates per generation.")] = 64,
    rollouts: Annotated[int, typer.Option(min=1, help="Dreams per candidate; all candidates share their noise.")] = 16,
    horizon: Annotated[int | None, typer.Option(min=1, help="Longest dream in actions.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the dream; the model's own by default.")
    ] = None,
    start: Annotated[Start, typer.Option(help="Where dreams begin: see `start` on the page of the dream.")] = "initial",
    expected: Annotated[
        bool,
        typer.Option(
            help="Score by expected returns: the probability of an end weighs rewards, and no dream ends by chance."
        ),
    ] = False,
    action_noise: Annotated[
        float, typer.Option(min=0, help="Disturb the dreamed actions: a probability (Discrete), or half ranges (Box).")
    ] = 0.0,
    reward_clip: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LEAST MOST", help="Clip the reward of each step.")
    ] = None,
    max_disagreement: Annotated[
        float | None, typer.Option(help="Cut the dreams of an ensemble where its members disagree by more.")
    ] = None,
    optimiser: Annotated[Optimiser, typer.Option(help="CMA-ES or OpenAI-ES.")] = "cma",
    begin: Annotated[str | None, typer.Option(help="Linear agent (id or path) to start the search from.")] = None,
    sigma: Annotated[float, typer.Option(help="Initial step size of the weights.")] = 0.1,
    action_map: Annotated[
        ActionMapKind | None, typer.Option(help="From outputs to actions; by default what fits the action space.")
    ] = None,
    validate_every: Annotated[int, typer.Option(min=0, help="Generations between real validations; 0: none.")] = 0,
    validation_episodes: Annotated[int, typer.Option(min=1, help="Real episodes of a validation.")] = 20,
    time_limit: Annotated[float | None, typer.Option(help="Seconds after which no generation begins.")] = None,
    workers: EvolutionWorkers = None,
    device: Device = "cpu",
    seed: Seed = 0,
    tensorboard: Annotated[bool, typer.Option(help="Write scalars to OUT/tensorboard.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Evolve a linear controller inside a dream.

    The same command continues an interrupted run.

    Example: dreamenv evolve DreamDoom-v0 --out runs/doom/agent --generations 100 --validate-every 10
    """
    from dreamenv.agents.evolution import evolve as evolve_controller
    from dreamenv.agents.evolution_state import Generation
    from dreamenv.agents.options import EvolutionOptions
    from dreamenv.cli.output import Output
    from dreamenv.cli.presets import agent_folder
    from dreamenv.cli.progress import Progress
    from dreamenv.scoring.score import Validator
    from dreamenv.world_model import WorldModel

    options = EvolutionOptions(
        generations=generations,
        optimiser=optimiser,
        population=population,
        rollouts=rollouts,
        horizon=horizon,
        temperature=temperature,
        start=start,
        expected=expected,
        action_noise=action_noise,
        reward_clip=reward_clip,
        max_disagreement=max_disagreement,
        sigma=sigma,
        action_map=action_map,
        workers=workers,
    )
    output = Output(json_file)
    beside = agent_folder(model)
    folder = beside if out is None else out
    world_model = WorldModel.load(model, device=device)
    bar = Progress("evolve", generations, "generation")

    def on_generation(record: Generation) -> None:
        text = f"dream mean {record.dream_mean:.1f}, best {record.dream_best:.1f}"
        for name, score in (("mean solution", record.validation_mean), ("best candidate", record.validation_best)):
            if score is not None:
                text += f", real {name} {score.mean:.1f}"
        bar.update(record.index, text)

    validator = None
    if validate_every:
        validator = Validator(model, episodes=validation_episodes, seed=seed, workers=workers, report=output.line)
    found = evolve_controller(
        world_model,
        out_dir=folder,
        options=options,
        seed=seed,
        begin=_weights(begin) if begin else None,
        validate=validator,
        validate_every=validate_every,
        time_limit=time_limit,
        tensorboard=tensorboard,
        progress=on_generation,
    )
    bar.close()
    last = found.history[-1]
    output.line(f"agent: {found.file}   {last.index} generations, dream mean {last.dream_mean:.1f}")
    if found.best_validation is not None:
        episodes = len(found.best_validation.returns)
        output.line(f"best real validation: {found.best_validation.mean:.1f} over {episodes} episodes")
    output.line(f"real frames of validation: {found.real_frames:,}")
    output.next("eval", model, *([] if beside == folder else ["--agent", folder]))
    output.figures(
        {
            "agent": str(found.file),
            "generations": last.index,
            "dream_mean": last.dream_mean,
            "validation_mean": found.best_validation.mean if found.best_validation else None,
            "real_frames": found.real_frames,
        },
    )


def _weights(agent: str) -> Any:
    """`[outputs, F + 1]` of a linear agent."""
    from dreamenv.agents.controller import LinearController
    from dreamenv.agents.resolve import load_agent
    from dreamenv.errors import ConfigurationError

    found = load_agent(agent)
    if not isinstance(found, LinearController):
        raise ConfigurationError(f"--begin {agent}: evolution starts from a linear agent, this is {found.kind}")
    return found.weights
