"""`dreamenv train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile, Seed, Workers


@app.command()
def train(
    name: Annotated[str | None, typer.Argument(metavar="[ID]", help="A dream's id; its preset is used.")] = None,
    real: Annotated[str | None, typer.Option(help="Any Gymnasium id, instead of a dream's.")] = None,
    out: Annotated[Path, typer.Option(help="Run directory; the bundle goes to OUT/bundle.")] = Path("runs/run"),
    frames: Annotated[int | None, typer.Option(help="Real frames to collect first, if OUT holds no episodes.")] = None,
    begin: Annotated[str | None, typer.Option(help="Bundle (id or folder) whose weights to start from.")] = None,
    episodes: Annotated[Path | None, typer.Option(help="Episode store to fit; OUT/episodes by default.")] = None,
    vision_steps: Annotated[
        int | None, typer.Option(min=0, help="Optimiser steps of V; 0, with --begin, keeps it as it is.")
    ] = None,
    memory_steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of M.")] = None,
    latent_size: Annotated[int | None, typer.Option(min=1, help="Z (image environments).")] = None,
    hidden_size: Annotated[int | None, typer.Option(min=1, help="H, the LSTM's width.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto (the faster one here), float32 or bfloat16; the preset's by default.")
    ] = None,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="Where to train: cpu, cuda, ...")] = "cpu",
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Fit V and M to collected episodes and write a bundle. The same command continues an interrupted run.

    Example: dreamenv train --real Pendulum-v1 --out runs/pendulum
    """
    from dreamenv.cli.options import explorations, preset, training_preset, write_config, write_registry
    from dreamenv.cli.progress import Progress, show_scalars, write_json
    from dreamenv.data.collect import collect as collect_episodes
    from dreamenv.data.collect import is_unfinished
    from dreamenv.data.episodes import EpisodeStore
    from dreamenv.training.pipeline import TrainOptions
    from dreamenv.training.pipeline import train as train_model
    from dreamenv.world_model import WorldModel

    section, spec = preset(name, real)
    options = training_preset(section)
    given = episodes is not None
    episodes = episodes or out / "episodes"
    if not given and (len(EpisodeStore(episodes)) == 0 or is_unfinished(episodes) or frames is not None):
        collecting = Progress("collect", frames or options.frames, "frame")
        collect_episodes(
            spec,
            episodes,
            explore=explorations(section),
            frames=frames or options.frames,
            workers=workers,
            seed=seed,
            progress=lambda n, reached, mean: collecting.update(reached, f"{n} episodes, mean return {mean:.1f}"),
        )
        collecting.close()
    chosen_precision = {"precision": precision} if precision else {}
    chosen = TrainOptions(
        vision=options.vision | ({"latent_size": latent_size} if latent_size else {}),
        memory=options.memory | ({"hidden_size": hidden_size} if hidden_size else {}),
        fit_vision=options.fit_vision | chosen_precision | ({} if vision_steps is None else {"steps": vision_steps}),
        fit_memory=options.fit_memory | chosen_precision | ({"steps": memory_steps} if memory_steps else {}),
        temperature=section.dream.temperature if section else 1.0,
        seed=seed,
        device=device,
    )
    bars: dict[str, Progress] = {}

    def on_progress(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if steps:
            bars.setdefault(stage, Progress(stage, steps, "row" if stage == "encode" else "step", every=5.0))
            bars[stage].update(step, show_scalars({k: v for k, v in scalars.items() if k.startswith("held_out/")}))

    model = train_model(
        spec,
        out,
        chosen,
        episodes=episodes,
        begin=WorldModel.load(begin) if begin else None,
        max_episode_steps=section.dream.max_episode_steps if section else None,
        provenance={"command": f"dreamenv train {name or '--real ' + spec.id} --seed {seed}"},
        progress=on_progress,
    )
    for bar in bars.values():
        bar.close()
    write_config(out, "train", {"real": spec.id, "options": vars(chosen) | {"frames": frames}})
    file, dream = write_registry(out, spec, model.max_episode_steps, model.temperature)
    held_out = model.provenance["held_out"]
    print(f"bundle: {out / 'bundle'}   held-out: {show_scalars(held_out)}")
    print(f'use it: dreamenv.register("{file}"); gym.make("{dream}")')
    write_json(json_file, {"bundle": str(out / "bundle"), "id": dream, **model.provenance})
