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
        str | None, typer.Option(help="Begin with this agent at the wheel: path, id, planner, random; or `shipped`.")
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

    Arrow keys, digits or a gamepad act, as `controls` in the registry names them. Space pauses, . takes one step, R
    begins anew, H hands over to the agent or back, T switches between dream and real environment, [ and ] change the
    temperature, - and = the speed, V records, Escape leaves.

    Example: dreamenv play DreamDoom-v0
    """
    import torch

    from dreamenv.play.driver import AGENT, HUMAN
    from dreamenv.play.game import REAL, Game
    from dreamenv.play.opening import open_dream
    from dreamenv.play.window import PlayWindow

    torch.set_num_threads(1)  # one picture at a time is too little work for more
    chosen = None if agent == "shipped" else agent
    opening = open_dream(name, agent=chosen, algo=algo, temperature=temperature, start=start)
    game = Game(opening, seed=seed, wheel=HUMAN if agent is None else AGENT)
    window = PlayWindow(game, record_to=record, report=lambda line: print(line, flush=True))
    try:
        if real:
            game.enter(REAL)
        window.run(episodes=episodes, steps=steps)
    finally:
        window.close()
