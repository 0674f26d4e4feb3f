"""`dreamenv loop`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile, Workers
from dreamenv.cli.overview import TRAIN
from dreamenv.cli.presets import Config, DreamSteps, Name, Real, Run, TimeLimit, chosen_preset


@app.command(rich_help_panel=TRAIN)
def loop(
    name: Name = None,
    real: Real = None,
    config: Config = None,
    out: Run = None,
    recipe: Annotated[str | None, typer.Option(help="What fits the model; the preset's by default.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the recipe; see `train`.")
    ] = None,
    learner: Annotated[
        str | None,
        typer.Option(
            help="actor-critic, actor-critic:cem,horizon=12 (it guides the planner), evolve, planner:cem,horizon=12, "
            "sb3:ppo, ...; the preset's by default."
        ),
    ] = None,
    train_ratio: Annotated[float | None, typer.Option(help="Real actions to replay for each one collected.")] = None,
    update_every: Annotated[
        int | None,
        typer.Option(min=1, help="Learn on after so many real actions (whole episodes); by default once a round."),
    ] = None,
    knobs: Annotated[
        list[str] | None,
        typer.Option(
            "--loop",
            metavar="KEY=VALUE",
            help="A setting of the loop, such as noisy_episodes=20 or agent.horizon=10; as many as wanted.",
        ),
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How many rounds; the preset's number by default.")] = None,
    limit: TimeLimit = None,
    dream_steps: DreamSteps = None,
    workers: Workers = None,
    seed: Annotated[
        int, typer.Option(min=0, max=49, help="Of all that is random; the same seed gives the same result.")
    ] = 0,
    json_file: JsonFile = None,
) -> None:
    """Collect, fit a model, learn in its dream, collect with the new agent, and repeat.

    The same command continues an interrupted run.

    By rounds, a model and an agent are fitted to all episodes so far, and the agent plays the next ones. With
    --update-every both learn on after every episode, as Dreamer does (recipes rssm and value_equivalent).

    Example: dreamenv loop DreamCarRacing-v0 --out runs/car --rounds 6
    """
    from dataclasses import asdict

    from dreamenv.cli.options import changed, training_preset, write_config, write_registry
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress, show_scalars
    from dreamenv.options import overlay, plain
    from dreamenv.workflows.learners import shares_options
    from dreamenv.workflows.loop import Round, run_loop
    from dreamenv.workflows.loop_options import LoopOptions

    output = Output(json_file)
    found = chosen_preset(name, real, config, out, limit=limit)
    section, spec, out = found.section, found.real, found.out
    command = found.command("loop", recipe, settings)
    how, details = found.recipe(recipe, settings)
    kept = {"replay_starts": 8192, "temperature": found.temperature}
    training = training_preset(section)
    below = overlay({"first_frames": found.frames, "train": kept}, training.loop)
    preset = overlay(below, {"train": {"recipe": training.recipe, "options": training.options}})
    wanted = overlay(below, {"train": {"recipe": how, "options": details}})
    if learner is not None and not shares_options(learner, wanted.get("learner", LoopOptions.learner)):
        wanted = {key: value for key, value in wanted.items() if key != "agent"}  # those are another learner's
    given = {"learner": learner, "train_ratio": train_ratio, "update_every": update_every, "rounds": rounds}
    wanted = overlay(wanted, {key: value for key, value in given.items() if value is not None})
    wanted = overlay(wanted, _changes(knobs or []))
    options = changed(LoopOptions, preset, wanted, section, "train.loop")
    bars: dict[str, Progress] = {}

    def on_progress(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if not bars:  # not before: a call that is refused must not change what is recorded of the run that is there
            write_config(out, "loop", {"real": spec.id, "seed": seed, "options": plain(options)})
        if steps and stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = Progress(stage, steps, "step")
        if steps:
            bars[stage].update(step, show_scalars(scalars), total=steps)

    def on_round(row: Round) -> None:
        output.line(
            f"round {row.number}: {row.real_frames:,} real frames, collected {row.collected_return:.1f}, "
            f"dream {row.dream_mean:.1f}, real validation {row.real_mean:.1f} ± {row.real_std:.1f}"
        )

    table = run_loop(
        spec,
        out,
        options,
        explore=found.explore,
        max_episode_steps=found.dream_steps(dream_steps, limit),
        workers=workers,
        seed=seed,
        provenance={
            "command": shlex.join([*shlex.split(command), *_words(given), *_words({"loop": knobs, "seed": seed})])
        },
        progress=on_progress,
        on_round=on_round,
    )
    for bar in bars.values():
        bar.close()
    write_registry(out, spec, _time_limit(out), options.train.temperature, name=found.dream)
    player = options.make_learner().player(out / "agent")
    output.next("eval", out / "bundle", "--agent", player.agent, *(["--algo", player.algo] if player.algo else []))
    output.figures([asdict(row) for row in table])


def _changes(knobs: list[str]) -> dict[str, Any]:
    """What `--loop` changes.

    Raises:
        ConfigurationError: It is what other options say.
    """
    from dreamenv.errors import ConfigurationError
    from dreamenv.options import parse_settings

    found = parse_settings(knobs)
    train = found.get("train", {})
    if not isinstance(train, dict):
        raise ConfigurationError(f"--loop train={train}: expected train.KEY=VALUE, such as train.device=cuda")
    for name, other in (("recipe", "--recipe NAME"), ("options", "--set KEY=VALUE")):
        if name in train:
            raise ConfigurationError(f"--loop train.{name}: write {other} for that")
    return found


def _words(given: dict[str, Any]) -> list[str]:
    """Options as one writes them; lists are repeated."""
    pairs = ((name, one) for name, value in given.items() for one in (value if isinstance(value, list) else [value]))
    return [word for name, one in pairs if one is not None for word in (f"--{name.replace('_', '-')}", str(one))]


def _time_limit(run_dir: Path) -> int:
    from dreamenv.bundle_config import read_config

    return int(read_config(run_dir / "bundle")["max_episode_steps"])
