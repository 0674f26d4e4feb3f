"""`dreamenv train-agent` and `dreamenv loop`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dreamenv.cli import app


@app.command("train-agent")
def train_agent(
    model: Annotated[str, typer.Argument(metavar="ID|BUNDLE", help="The dream to learn in.")],
    out: Annotated[Path, typer.Option(help="Folder of checkpoint and agent.")] = Path("runs/run/agent"),
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    horizon: Annotated[int | None, typer.Option(min=1, help="Length of a dream in actions.")] = None,
    discount: Annotated[float | None, typer.Option(help="Of rewards, an action.")] = None,
    entropy: Annotated[float | None, typer.Option(help="Weight of the policy's entropy in nats.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the dream; the model's own by default.")] = None,
    action_map: Annotated[str | None, typer.Option(help="squash, throttle or argmax; fit to the space.")] = None,
    gradient: Annotated[str | None, typer.Option(help="dynamics (through the dream) or reinforce (by score).")] = None,
    validate_every: Annotated[int, typer.Option(min=0, help="Steps between real validations; 0: none.")] = 0,
    validation_episodes: Annotated[int, typer.Option(min=1)] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Processes for validation.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=4999)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Train an actor-critic by gradients through a dream. The same command continues an interrupted run.

    What is not given comes from the preset of the model's real environment, and where there is none from the defaults
    of `ImaginationOptions`.

    Example: dreamenv train-agent DreamCarRacing-v0 --steps 3000 --out runs/car/agent
    """
    from dreamenv.agents.imagination import train_actor_critic
    from dreamenv.agents.imagination_options import ImaginationOptions
    from dreamenv.cli.progress import Progress, show_scalars, write_json
    from dreamenv.cli.run import section_of, training_preset
    from dreamenv.scoring.score import Validator
    from dreamenv.world_model import WorldModel

    world_model = WorldModel.load(model)
    preset = training_preset(section_of(world_model.real.id)).loop.get("agent", {})
    knobs = _known(ImaginationOptions, preset, "train.loop.agent")
    given: dict[str, Any] = {
        "steps": steps,
        "horizon": horizon,
        "discount": discount,
        "entropy": entropy,
        "temperature": temperature,
    }
    given |= {"action_map": action_map, "gradient": gradient}
    options = ImaginationOptions(**knobs | {key: value for key, value in given.items() if value is not None})
    bar = Progress("train-agent", options.steps, "step", every=5.0)
    validator = Validator(model, episodes=validation_episodes, seed=seed, workers=workers) if validate_every else None
    learned = train_actor_critic(
        world_model,
        out_dir=out,
        options=options,
        seed=seed,
        validate=validator,
        validate_every=validate_every or 250,
        progress=lambda step, total, scalars: bar.update(step, show_scalars(scalars)),
    )
    bar.close()
    print(f"agent: {learned.file}   real frames of validation: {learned.real_frames:,}")
    write_json(
        json_file,
        {"agent": str(learned.file), "validation_mean": learned.validation, "real_frames": learned.real_frames},
    )


@app.command()
def loop(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="A dream's id; its preset is used.")] = None,
    real: Annotated[str | None, typer.Option(help="Any Gymnasium id, instead of a dream's.")] = None,
    out: Annotated[Path, typer.Option(help="Run directory.")] = Path("runs/loop"),
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; the preset's by default.")] = None,
    workers: Annotated[int, typer.Option(min=1)] = 2,
    seed: Annotated[int, typer.Option(min=0, max=49)] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the table of rounds to this file.")] = None,
) -> None:
    """Collect, fit V and M, learn in the dream, collect with what was learned, and again. Continues when interrupted.

    Example: dreamenv loop DreamCarRacing-v0 --out runs/car --rounds 6
    """
    from dataclasses import asdict

    from dreamenv.agents.imagination_options import ImaginationOptions
    from dreamenv.cli.progress import Progress, show_scalars, write_json
    from dreamenv.cli.run import explorations, preset, training_preset, write_config, write_registry
    from dreamenv.training.pipeline import TrainOptions
    from dreamenv.workflows.loop import LoopOptions, Round, run_loop

    section, spec = preset(name, real)
    chosen = training_preset(section)
    knobs = _known(LoopOptions, chosen.loop, "train.loop") | ({"rounds": rounds} if rounds else {})
    of_agent = _known(ImaginationOptions, knobs.pop("agent", {}), "train.loop.agent")
    options = LoopOptions(
        first_frames=chosen.frames,
        train=TrainOptions(
            vision=chosen.vision,
            memory=chosen.memory,
            fit_vision=chosen.fit_vision,
            fit_memory=chosen.fit_memory,
            temperature=section.dream.temperature if section else 1.0,
            replay_starts=8192,
        ),
        agent=ImaginationOptions(**of_agent),
        **knobs,
    )
    write_config(out, "loop", {"real": spec.id, "seed": seed, "options": _plain(asdict(options))})
    bars: dict[str, Progress] = {}

    def on_progress(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if steps and stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = Progress(stage, steps, "row" if "encode" in stage else "step")
        if steps:
            bars[stage].update(step, show_scalars(scalars))

    def on_round(row: Round) -> None:
        print(
            f"round {row.number}: {row.real_frames:,} real frames, collected {row.collected_return:.1f}, "
            f"dream {row.dream_mean:.1f}, real validation {row.real_mean:.1f} ± {row.real_std:.1f}",
            flush=True,
        )

    table = run_loop(
        spec,
        out,
        options,
        explore=explorations(section),
        max_episode_steps=section.dream.max_episode_steps if section else None,
        workers=workers,
        seed=seed,
        provenance={"command": f"dreamenv loop {name or '--real ' + spec.id} --rounds {options.rounds} --seed {seed}"},
        progress=on_progress,
        on_round=on_round,
    )
    for bar in bars.values():
        bar.close()
    limit = section.dream.max_episode_steps if section else _time_limit(out)
    write_registry(out, spec, limit, options.train.temperature)
    write_json(json_file, [asdict(row) for row in table])


def _known(kind: type, found: dict[str, Any], where: str) -> dict[str, Any]:
    """Keyword arguments of the dataclass `kind` from registry.yaml, lists as tuples."""
    from dataclasses import fields

    from dreamenv.errors import RegistryError, did_you_mean

    names = {field.name for field in fields(kind)} - {"train", "first_frames"}
    for key in found:
        if key not in names:
            raise RegistryError(f"{where}: unknown option {key!r}. {did_you_mean(key, names)}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def _time_limit(run_dir: Path) -> int:
    from dreamenv.bundle import read_config

    return int(read_config(run_dir / "bundle")["max_episode_steps"])


def _plain(value: object) -> object:
    """Tuples as lists, so that YAML is readable by any safe loader."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
