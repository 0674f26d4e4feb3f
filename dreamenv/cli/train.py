"""`dreamenv train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import Device, JsonFile, Seed, Workers
from dreamenv.cli.overview import TRAIN
from dreamenv.cli.presets import Config, DreamSteps, Name, Real, Run, TimeLimit, chosen_preset


@app.command(rich_help_panel=TRAIN)
def train(
    name: Name = None,
    real: Real = None,
    config: Config = None,
    out: Run = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="Real frames that OUT is to hold; what is missing is collected first. By default the preset's."
        ),
    ] = None,
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
    limit: TimeLimit = None,
    dream_steps: DreamSteps = None,
    workers: Workers = None,
    device: Device = "cpu",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Fit a world model to real episodes and write a bundle to OUT/bundle.

    Without collected episodes it collects them first. The same command continues an interrupted run, and --frames with
    a larger number collects more and fits anew. From then on OUT is an id for every verb that takes a dream's model:
    dreamenv evolve OUT.

    Example: dreamenv train --real Pendulum-v1 --out runs/pendulum --set fit_memory.steps=2000
    """
    from contextlib import closing

    from dreamenv.agents.exploration import FACTORIES
    from dreamenv.cli.options import write_config, write_registry
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress, show_scalars
    from dreamenv.data.collect import collect as collect_episodes
    from dreamenv.data.collect import is_unfinished
    from dreamenv.data.episodes import EpisodeStore
    from dreamenv.data.preprocess import make_real_env
    from dreamenv.options import plain
    from dreamenv.training.pipeline import TrainOptions, check_trainable
    from dreamenv.training.pipeline import train as train_model
    from dreamenv.world_model import WorldModel

    output = Output(json_file)
    chosen = chosen_preset(name, real, config, out, limit=limit, episodes=episodes)
    spec, out = chosen.real, chosen.out
    how, details = chosen.recipe(recipe, settings)
    options = TrainOptions(how, details, temperature=chosen.temperature, seed=seed, device=device)
    wanted_frames = frames or chosen.frames
    given = episodes is not None
    episodes = episodes or out / "episodes"
    if not given and (len(EpisodeStore(episodes)) == 0 or is_unfinished(episodes) or frames is not None):
        with closing(make_real_env(spec)) as env:
            check_trainable(env, options)
        collecting = Progress("collect", wanted_frames, "frame")
        collect_episodes(
            spec,
            episodes,
            explore=chosen.explore,
            frames=wanted_frames,
            workers=workers,
            seed=seed,
            factories=FACTORIES,
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
        max_episode_steps=chosen.dream_steps(dream_steps, limit),
        provenance={"command": f"{chosen.command('train', recipe, settings)} --seed {seed}"},
        progress=on_progress,
    )
    for bar in bars.values():
        bar.close()
    write_config(out, "train", {"real": spec.id, "options": plain(options) | {"frames": frames}})
    file, dream = write_registry(out, spec, model.max_episode_steps, model.temperature, name=chosen.dream)
    held_out = model.provenance["held_out"]
    output.line(f"bundle: {out / 'bundle'}   held-out: {show_scalars(held_out)}")
    output.line(f'use it: dreamenv.register("{file}"); gym.make("{dream}")')
    output.next("evolve", out)
    output.figures({"bundle": str(out / "bundle"), "id": dream, **model.provenance})
