"""`dreamenv video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import Seed, View, dream_ids
from dreamenv.cli.overview import LOOK


@app.command(rich_help_panel=LOOK)
def video(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream, and the model the agent sees through."
        ),
    ],
    file: Annotated[
        Path,
        typer.Option(
            metavar="FILE", callback=places.file_ending(*places.VIDEO_ENDINGS), help="The .mp4 or .gif to write."
        ),
    ] = Path("video.mp4"),
    what: Annotated[Literal["dream", "real", "both"], typer.Option(help="What to film; both: side by side.")] = "both",
    agent: Annotated[str | None, typer.Option(help="Its path or id, planner:cem, random; the shipped one.")] = None,
    algo: Annotated[str | None, typer.Option(help="Algorithm of stable-baselines3 that saved --agent.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Most actions to show.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Actions to leave out at the beginning.")] = 0,
    view: Annotated[View, typer.Option(help="Reality as the vision model sees it, or as rendered.")] = "seen",
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of a picture in pixels.")] = 256,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of the dream; the model's own by default.")
    ] = None,
    dreams: Annotated[int, typer.Option(min=1, max=100, help="How many dreams to show, in a grid.")] = 1,
    temperatures: Annotated[
        str | None, typer.Option(help="Show one dream at each of these, such as 0.1,0.5,1,1.3.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Film an agent in the dream, in the real environment, or in both.

    Both begin with the same first frame. --dreams shows a grid of dreams that begin at different moments,
    --temperatures shows dreams of one moment.

    Example: dreamenv video DreamDoom-v0 --file doom.gif --steps 150
    """
    from dreamenv.agents.resolve import resolve_agent
    from dreamenv.errors import ConfigurationError
    from dreamenv.figures.clips import record_dream, record_real
    from dreamenv.figures.video import check_writer, grid, write_video
    from dreamenv.types import episode_seeds
    from dreamenv.world_model import WorldModel

    check_writer(file)
    many = dreams > 1 or temperatures is not None
    if many and what == "real":
        raise ConfigurationError("--what real films one real episode; leave out --dreams and --temperatures")
    taus = [temperature] if temperatures is None else _numbers("--temperatures", temperatures)
    world_model = WorldModel.load(model)
    player = resolve_agent(agent, world_model, source=model, algo=algo)
    episode = episode_seeds("validation", seed, 1)[0]
    length = None if steps is None else skip + steps
    clips = {}
    if many:
        for tau in taus:
            for place, own in enumerate(episode_seeds("validation", seed, dreams)):
                label = f"dream {place}" if temperatures is None else f"τ {tau:g}"
                clips[(tau or 0.0, place, label)] = record_dream(
                    world_model, player, seed=own, steps=length, temperature=tau, size=size
                )
    elif what in ("real", "both"):
        clips[(0.0, 1, "reality")] = record_real(world_model, player, seed=episode, steps=length, view=view, size=size)
    if not many and what in ("dream", "both"):
        first = next((clip.first_observation for clip in clips.values()), None)
        clips[(0.0, 0, "dream")] = record_dream(
            world_model, player, seed=episode, steps=length, first_observation=first, temperature=temperature, size=size
        )
    sides = []
    for (_, _, label), clip in sorted(clips.items()):
        begin = min(skip, len(clip.frames) - 1)
        sides.append((clip.frames[begin:], label, clip.captions()[begin:]))
        print(f"{label}: {len(clip.rewards)} actions, return {clip.undiscounted_return:.1f}")
    frames = grid(sides, columns=2 if what == "both" and not many else None)
    write_video(file, frames, world_model.real.steps_per_second)
    print(f"{file}: {len(frames)} frames, {file.stat().st_size / 1e6:.2f} MB")


def _numbers(option: str, text: str) -> list[float]:
    from dreamenv.errors import ConfigurationError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(f"{option} {text}: expected numbers with commas between them") from error
