"""`dreamenv collect`."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile, Seed, Workers
from dreamenv.cli.overview import TRAIN
from dreamenv.cli.presets import Config, Name, Real, Run, TimeLimit, chosen_preset


@app.command(rich_help_panel=TRAIN)
def collect(
    name: Name = None,
    real: Real = None,
    config: Config = None,
    out: Run = None,
    frames: Annotated[int | None, typer.Option(help="Real frames to collect (action repeat counted).")] = None,
    episodes: Annotated[int | None, typer.Option(help="Episodes to collect, instead of frames.")] = None,
    agent: Annotated[str | None, typer.Option(help="Explore with this agent (path, id, planner) plus noise.")] = None,
    algo: Annotated[str | None, typer.Option(help="Algorithm of stable-baselines3 that saved --agent.")] = None,
    model: Annotated[str | None, typer.Option(help="World model (id or bundle) that the agent sees through.")] = None,
    part: Annotated[
        str | None, typer.Option(help="Collect into OUT/episodes/PART; the rest of OUT/episodes stays.")
    ] = None,
    limit: TimeLimit = None,
    workers: Workers = None,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Record real episodes in OUT/episodes. The same command continues an interrupted collection.

    Example: dreamenv collect DreamDoom-v0 --frames 1000000 --out runs/doom
    """
    from dreamenv.agents.exploration import FACTORIES
    from dreamenv.cli.options import write_config
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress
    from dreamenv.data.collect import check_collected
    from dreamenv.data.collect import collect as collect_episodes
    from dreamenv.data.explore import Exploration
    from dreamenv.errors import ConfigurationError
    from dreamenv.training.ledger import record_frames

    within = PurePath(part or "")
    if within.anchor or ".." in within.parts:
        raise ConfigurationError(f"--part is {part}; expected a folder within OUT/episodes, such as gentle or round/0")
    output = Output(json_file)
    chosen = chosen_preset(name, real, config, out, limit=limit)
    spec, out, explore = chosen.real, chosen.out, chosen.explore
    if agent is not None:
        world_model = model or name
        if world_model is None:
            raise ConfigurationError("--agent needs --model, the bundle that the agent sees through")
        named = {"agent": agent, "world_model": world_model} | ({} if algo is None else {"algo": algo})
        explore = [Exploration("agent", 1.0, named)]
    if frames is None and episodes is None:
        frames = 100_000
    if part:
        check_collected(out / "episodes", spec)
    bar = Progress("collect", frames or episodes, "frame" if frames else "episode")

    def on_episode(count: int, real_frames: int, mean_return: float) -> None:
        bar.update(real_frames if frames else count, f"{count} episodes, mean return {mean_return:.1f}")

    found = collect_episodes(
        spec,
        out / "episodes" / (part or ""),
        explore=explore,
        frames=frames,
        episodes=episodes,
        workers=workers,
        seed=seed,
        factories=FACTORIES,
        progress=on_episode,
        report=output.line,
    )
    bar.close()
    stage = f"collect {part}" if part else "collect"
    record_frames(out, stage, found.real_frames)
    write_config(out, stage, {"real": spec.id, "seed": seed, "frames": frames, "episodes": episodes, "agent": agent})
    if found.skipped:
        output.line(f"{len(found.skipped)} episodes raised or were not finite and were skipped")
    output.line(f"{found.episodes} episodes, {found.real_frames:,} real frames, mean return {found.mean_return:.1f}")
    output.next("train", *(word for word in chosen.words if word not in ("--out", str(out))), "--out", out)
    output.figures(
        {
            "episodes": found.episodes,
            "real_frames": found.real_frames,
            "mean_return": found.mean_return,
            "skipped": len(found.skipped),
        },
    )
