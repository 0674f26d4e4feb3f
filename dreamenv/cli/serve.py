"""`dreamenv serve`."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import Seed, dream_ids
from dreamenv.cli.overview import LOOK
from dreamenv.types import Start


@app.command(rich_help_panel=LOOK)
def serve(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream; its vision must be of pictures."
        ),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine a token is needed.")] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="The token to ask for, instead of one generated at random.")] = None,
    players: Annotated[int, typer.Option(min=1, help="Most players at once.")] = 4,
    real_games: Annotated[int, typer.Option(min=0, help="Most real environments at once.")] = 1,
    idle: Annotated[float, typer.Option(help="Seconds of silence after which a player's place is free.")] = 300.0,
    agent: Annotated[
        str | None, typer.Option(help="Who drives when you let go: path, id, planner, random; the shipped one.")
    ] = None,
    algo: Annotated[str | None, typer.Option(help="Algorithm of stable-baselines3 that saved --agent.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the dream at first; its own by default.")] = None,
    start: Annotated[Start | None, typer.Option(help="Where dreams begin; as registered by default.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in this machine's browser.")] = False,
    seed: Seed = 0,
) -> None:
    """Drive in a dream on a web page, with keys or touch.

    The model runs on this machine. The page also shows possible futures, and what each latent number does.

    With --host 0.0.0.0 phones in the same network can play; a terminal then shows the address as a QR code too.

    Ctrl-C ends it. /health answers 200 while it runs.

    Example: dreamenv serve DreamDoom-v0 --port 8000
    """
    from dreamenv.errors import missing_extra

    try:
        from dreamenv.serve.access import is_loopback
        from dreamenv.serve.announcement import announcement
        from dreamenv.serve.server import DreamServer, ServeOptions
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "serve") from error
    import torch

    from dreamenv.play.opening import open_dream

    options = ServeOptions(host, port, token, players, real_games, idle, seed)
    torch.set_num_threads(1)  # each player has a thread; more would only stand in each other's way
    opening = open_dream(model, agent=agent, algo=algo, temperature=temperature, start=start)
    server = DreamServer(opening, options)
    for line in announcement(opening.id, server.address, qr_code=sys.stdout.isatty() and not is_loopback(host)):
        print(line, flush=True)
    if open_page and not webbrowser.open(server.address):
        print("no browser can be opened here; open the address yourself", flush=True)
    server.run()
