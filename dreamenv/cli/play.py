"""`dreamenv play`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import Seed, dream_ids
from dreamenv.cli.overview import LOOK
from dreamenv.types import Start


@app.command(rich_help_panel=LOOK)
def play(
    name: Annotated[str, typer.Argument(metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream.")],
    agent: Annotated[
        str | None, typer.Option(help="Who drives when you do not: path, id, planner, random; the shipped one.")
    ] = None,
    algo: Annotated[str | None, typer.Option(help="Algorithm of stable-baselines3 that saved --agent.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the dream at first; its own by default.")] = None,
    start: Annotated[Start | None, typer.Option(help="Where dreams begin; as registered by default.")] = None,
    real: Annotated[bool, typer.Option("--real", help="Begin in the real environment.")] = False,
    record: Annotated[
        Path,
        typer.Option(
            callback=places.file_ending(*places.VIDEO_ENDINGS),
            help="The .mp4 or .gif that key V writes; an existing file is kept.",
        ),
    ] = Path("play.mp4"),
    episodes: Annotated[int | None, typer.Option(min=1, help="Leave after so many episodes.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Most actions an episode.")] = None,
    seed: Seed = 0,
) -> None:
    """Drive in a dream, or in the real environment behind it, in a window.

    The agent drives until you press an arrow key or a digit or use a gamepad; what they do is `controls` in the
    registry. Space pauses, . takes one step, R restarts, H hands over to the agent or back, T goes from the dream to
    the real environment and to a race of both, [ and ] change the temperature, - and = the speed, V records, Escape
    leaves.

    Example: dreamenv play DreamDoom-v0
    """
    import torch

    from dreamenv.play.driver import AGENT
    from dreamenv.play.game import REAL, Game
    from dreamenv.play.opening import open_dream
    from dreamenv.play.window import PlayWindow

    torch.set_num_threads(1)  # one picture at a time is too little work for more
    opening = open_dream(name, agent=agent, algo=algo, temperature=temperature, start=start)
    game = Game(opening, seed=seed, wheel=AGENT)
    window = PlayWindow(game, record_to=record, report=lambda line: print(line, flush=True))
    try:
        if real:
            game.enter(REAL)
        window.run(episodes=episodes, steps=steps)
    finally:
        window.close()
