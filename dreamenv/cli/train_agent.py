"""`dreamenv train-agent`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dreamenv import registry
from dreamenv.cli import app, places
from dreamenv.cli.options import ActionMapKind, Device, Gradient, JsonFile, Seed, Workers, dream_ids
from dreamenv.cli.overview import TRAIN


@app.command("train-agent", rich_help_panel=TRAIN)
def train_agent(
    model: Annotated[str, typer.Argument(metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream to learn in.")],
    out: Annotated[
        Path | None,
        typer.Option(
            callback=places.folder, help="Folder of checkpoint and agent.", show_default="agent, in the model's run"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Dreams a step.")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Length of a dream in actions.")] = None,
    discount: Annotated[float | None, typer.Option(help="Discount of rewards per action.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's, for actor and critic.")] = None,
    entropy: Annotated[float | None, typer.Option(help="Weight of the policy's entropy in nats.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the dream; the model's own by default.")
    ] = None,
    action_map: Annotated[
        ActionMapKind | None, typer.Option(help="From outputs to actions; by default what fits the action space.")
    ] = None,
    gradient: Annotated[
        Gradient | None, typer.Option(help="dynamics: through the dream; reinforce: by the score of the actions.")
    ] = None,
    begin: Annotated[
        str | None,
        typer.Option(
            metavar="AGENT", help="Id, folder or file of an actor-critic that learns on, in place of a fresh one."
        ),
    ] = None,
    critic_first: Annotated[
        int | None,
        typer.Option(min=0, help="The first so many steps are the critic's alone, for an agent that brings none."),
    ] = None,
    reward_clip: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LEAST MOST", help="Clip the reward of each step; 0 0 leaves it as it is."),
    ] = None,
    reward_squash: Annotated[
        float | None, typer.Option(help="S in S·tanh(r / S), which a reward r counts for; 0 counts it as it is.")
    ] = None,
    gradient_clip: Annotated[
        float | None,
        typer.Option(min=0, help="How many times the 0.9 quantile one dream's gradient may be long; 0: no limit."),
    ] = None,
    actor_average: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="How far a mean of the actor, which plays, moves at each step; 0: no mean."),
    ] = None,
    validate_every: Annotated[int, typer.Option(min=0, help="Steps between real validations; 0: none.")] = 0,
    validation_episodes: Annotated[int, typer.Option(min=1, help="Real episodes of a validation.")] = 10,
    workers: Workers = None,
    device: Device = "cpu",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Train an actor-critic inside a dream.

    The same command continues an interrupted run. An option that is not given comes from the preset of the dream,
    for a folder from the first preset of its real environment and recipe, and where there is none from the defaults of
    `ImaginationOptions`. With --begin an agent learns on, such as the one of a loop's round in the dream of that round.

    Example: dreamenv train-agent DreamCarRacing-v0 --steps 3000 --out runs/car/agent
    """
    from dataclasses import replace

    from dreamenv.agents.imagination import learn_on, train_actor_critic
    from dreamenv.agents.options import ImaginationOptions
    from dreamenv.agents.resolve import load_agent
    from dreamenv.cli.options import checked, section_of, training_preset
    from dreamenv.cli.output import Output
    from dreamenv.cli.presets import agent_folder
    from dreamenv.cli.progress import Progress, show_scalars
    from dreamenv.scoring.score import Validator
    from dreamenv.world_model import WorldModel

    output = Output(json_file)
    beside = agent_folder(model)
    folder = beside if out is None else out
    world_model = WorldModel.load(model, device=device)
    if registry.folder_of(model) is not None:
        section = section_of(world_model.real.id, recipe=world_model.provenance.get("recipe"))
    else:
        section = registry.find(model).section
    preset = checked(ImaginationOptions, training_preset(section).loop.get("agent", {}), section, "train.loop.agent")
    given: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch_size,
        "horizon": horizon,
        "discount": discount,
        "entropy": entropy,
        "temperature": temperature,
        "action_map": action_map,
        "gradient": gradient,
        "learning_rate": learning_rate,
        "critic_first": critic_first,
    }
    options = replace(preset, **{key: value for key, value in given.items() if value is not None})
    switches = {
        "reward_clip": reward_clip if reward_clip is None or any(reward_clip) else 0.0,
        "reward_squash": reward_squash,
        "gradient_clip": gradient_clip,
        "actor_average": actor_average,
    }
    switched: dict[str, Any] = {key: value or None for key, value in switches.items() if value is not None}
    options = replace(options, **switched)
    networks = None
    if begin is not None:
        networks, options = learn_on(world_model, load_agent(begin, world_model=world_model), options, seed=seed)
    bar = Progress("train-agent", options.steps, "step", every=5.0)
    validator = None
    if validate_every:
        validator = Validator(model, episodes=validation_episodes, seed=seed, workers=workers, report=output.line)
    learned = train_actor_critic(
        world_model,
        out_dir=folder,
        options=options,
        seed=seed,
        begin=networks,
        validate=validator,
        validate_every=validate_every or 250,
        progress=lambda step, total, scalars: bar.update(step, show_scalars(scalars)),
    )
    bar.close()
    output.line(f"agent: {learned.file}   real frames of validation: {learned.real_frames:,}")
    output.next("eval", model, *([] if beside == folder else ["--agent", folder]))
    output.figures(
        {"agent": str(learned.file), "validation_mean": learned.validation, "real_frames": learned.real_frames},
    )
