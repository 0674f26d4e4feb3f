"""`dreamenv train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile, Seed, Workers, dream_ids
from dreamenv.cli.overview import TRAIN


@app.command(rich_help_panel=TRAIN)
def train(
    name: Annotated[
        str | None, typer.Argument(metavar="ID", autocompletion=dream_ids, help="A dream's id; its preset is used.")
    ] = None,
    real: Annotated[str | None, typer.Option(help="Any Gymnasium id, instead of a dream's.")] = None,
    out: Annotated[
        Path, typer.Option(callback=places.folder, help="Run directory; the bundle goes to OUT/bundle.")
    ] = Path("runs/run"),
    frames: Annotated[int | None, typer.Option(help="Real frames to collect first, if OUT holds no episodes.")] = None,
    begin: Annotated[str | None, typer.Option(help="Bundle (id or folder) whose weights to start from.")] = None,
    episodes: Annotated[Path | None, typer.Option(help="Episode store to fit; OUT/episodes by default.")] = None,
    recipe: Annotated[str | None, typer.Option(help="How to fit the model; the preset's way, or mdn_rnn.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="An option of the recipe, such as fit_memory.steps=3000; may be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, ...")] = "cpu",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Fit a world model to real episodes and write a bundle.

    Without collected episodes it collects them first. The same command continues an interrupted run.

    Example: dreamenv train --real Pendulum-v1 --out runs/pendulum --set fit_memory.steps=2000
    """
    from dreamenv.cli.options import (
        as_given,
        explorations,
        preset,
        recipe_and_options,
        training_preset,
        write_config,
        write_registry,
    )
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress, show_scalars
    from dreamenv.data.collect import collect as collect_episodes
    from dreamenv.data.collect import is_unfinished
    from dreamenv.data.episodes import EpisodeStore
    from dreamenv.options import plain
    from dreamenv.training.pipeline import TrainOptions
    from dreamenv.training.pipeline import train as train_model
    from dreamenv.world_model import WorldModel

    output = Output(json_file)
    section, spec = preset(name, real)
    how, details = recipe_and_options(section, recipe, settings or [])
    temperature = section.dream.temperature if section else 1.0
    options = TrainOptions(how, details, temperature=temperature, seed=seed, device=device)
    wanted_frames = frames or training_preset(section).frames
    given = episodes is not None
    episodes = episodes or out / "episodes"
    if not given and (len(EpisodeStore(episodes)) == 0 or is_unfinished(episodes) or frames is not None):
        collecting = Progress("collect", wanted_frames, "frame")
        collect_episodes(
            spec,
            episodes,
            explore=explorations(section),
            frames=wanted_frames,
            workers=workers,
            seed=seed,
            progress=lambda n, reached, mean: collecting.update(reached, f"{n} episodes, mean return {mean:.1f}"),
            report=output.line,
        )
        collecting.close()
    bars: dict[str, Progress] = {}

    def on_progress(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if steps:
            bars.setdefault(stage, Progress(stage, steps, "step", every=5.0))
            bars[stage].update(step, show_scalars({k: v for k, v in scalars.items() if k.startswith("held_out/")}))

    model = train_model(
        spec,
        out,
        options,
        episodes=episodes,
        begin=WorldModel.load(begin) if begin else None,
        max_episode_steps=section.dream.max_episode_steps if section else None,
        provenance={"command": f"{as_given('train', name, spec.id, recipe, settings or [])} --seed {seed}"},
        progress=on_progress,
    )
    for bar in bars.values():
        bar.close()
    write_config(out, "train", {"real": spec.id, "options": plain(options) | {"frames": frames}})
    file, dream = write_registry(out, spec, model.max_episode_steps, model.temperature)
    held_out = model.provenance["held_out"]
    output.line(f"bundle: {out / 'bundle'}   held-out: {show_scalars(held_out)}")
    output.line(f'use it: dreamenv.register("{file}"); gym.make("{dream}")')
    output.next("evolve", out / "bundle", "--out", out / "agent")
    output.figures({"bundle": str(out / "bundle"), "id": dream, **model.provenance})
