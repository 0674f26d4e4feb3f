"""`dreamenv plot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import Seed
from dreamenv.cli.overview import LOOK

if TYPE_CHECKING:
    from dreamenv.cli.output import Output

_TITLES = ("loop", "round", "real frames", "dream", "real validation")


@app.command(rich_help_panel=LOOK)
def plot(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="ID|FOLDER...", help="Dreams, bundles, and runs of train, evolve or loop."),
    ],
    out: Annotated[Path, typer.Option(callback=places.folder, help="Folder of the pictures.")] = Path("plots"),
    model: Annotated[bool, typer.Option(help="Draw what models have learned; plays real episodes.")] = True,
    agent: Annotated[str | None, typer.Option(help="Which agent drives, with a little noise; or random.")] = None,
    horizons: Annotated[str, typer.Option(help="After how many dreamed actions to compare.")] = "1,5,15,50",
    samples: Annotated[int, typer.Option(min=1, help="Dreams of the same moment.")] = 3,
    context: Annotated[int | None, typer.Option(min=0, help="Real actions before the dream.")] = None,
    temperature: Annotated[float, typer.Option(help="Temperature of the dreams.")] = 1.0,
    seed: Seed = 0,
) -> None:
    """Draw what models have learned and how runs went, as PNG and SVG.

    Of a dream or a bundle: reconstructions and open_loop. Of a run: training (losses of V and M), evolution, rounds
    (the loop's table; a bundle of a loop holds it too) and dream_against_real (both scores of the same agents). The
    rounds and scores of several sources are compared in one picture.

    Example: dreamenv plot DreamDoom-v0 --out docs/images/doom

    Example: dreamenv plot runs/first runs/second --out plots
    """
    from dreamenv.cli.output import Output
    from dreamenv.errors import BundleError
    from dreamenv.figures.canvas import save_figures

    output = Output()
    folders = _folders(sources)
    figures = _run_figures(folders, output)
    for name, (source, folder) in folders.items():
        if model and _is_bundle(folder):
            drawn = _model_figures(source, agent, horizons, samples, context, temperature, seed)
            figures |= {figure + _suffix(name, folders): found for figure, found in drawn.items()}
    if not figures:
        raise BundleError(
            f"{', '.join(sources)}: nothing to draw; expected a bundle (config.json), rounds.json (loop), "
            "evolution.json (evolve) or a tensorboard folder (train)"
        )
    for file in save_figures(figures, out):
        output.line(file)


# Each source and its folder, by the name in the pictures
Folders = dict[str, tuple[str, Path]]


def _folders(sources: list[str]) -> Folders:
    from dreamenv.bundle import resolve_bundle
    from dreamenv.errors import ConfigurationError
    from dreamenv.registry import folder_of

    found: Folders = {}
    for source in sources:
        # A run is drawn as a run, although its folder is the id of its bundle too
        own = folder_of(source)
        folder = own if own is not None and _is_run(own) else resolve_bundle(source)[0]
        name = source if own is None else own.resolve().name
        if name in found:
            raise ConfigurationError(f"{found[name][0]} and {source} would both be called {name!r} in the pictures")
        found[name] = source, folder
    return found


def _suffix(name: str, folders: Folders) -> str:
    return f"_{name}" if len(folders) > 1 else ""


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("rounds.json", "evolution.json", "tensorboard"))


def _is_bundle(folder: Path) -> bool:
    return (folder / "config.json").exists()


def _run_figures(folders: Folders, output: Output) -> dict[str, Any]:
    from dreamenv.figures import runs as curves
    from dreamenv.figures.model import evolution_figure, read_evolution

    loops = {name: rounds for name, (_, folder) in folders.items() if (rounds := _rounds(folder))}
    figures: dict[str, Any] = {}
    if loops:
        figures["rounds"] = curves.rounds_figure(loops)
        output.table(
            _TITLES, [_cells(name, row) for name, table in loops.items() for row in table], numbers=_TITLES[1:]
        )
    scores = {name: [(row["dream_mean"], row["real_mean"]) for row in table] for name, table in loops.items()}
    for name, (source, folder) in folders.items():
        if (folder / "tensorboard").is_dir():
            figures["training" + _suffix(name, folders)] = curves.training_figure(curves.read_scalars(folder), source)
        agent = folder / "agent" if (folder / "agent").is_dir() else folder
        if (agent / "evolution.json").exists():
            history = read_evolution(agent)
            figures["evolution" + _suffix(name, folders)] = evolution_figure(history, source)
            scores.setdefault(name, []).extend(
                (row["dream_mean"], row["validation_mean"]["mean"]) for row in history if row.get("validation_mean")
            )
    scores = {name: pairs for name, pairs in scores.items() if pairs}
    if scores:
        figures["dream_against_real"] = curves.dream_against_real_figure(scores)
    return {name: figure for name, figure in figures.items() if figure is not None}


def _rounds(folder: Path) -> list[dict[str, Any]]:
    """The rounds of a loop, or of the loop that made a bundle; none where there was no loop."""
    from dreamenv.bundle_config import read_config
    from dreamenv.figures.runs import read_rounds

    by_loop = (folder / "rounds.json").exists()
    if not by_loop and _is_bundle(folder):
        by_loop = "rounds" in read_config(folder)["provenance"]
    return read_rounds(folder) if by_loop else []


def _cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    real = f"{row['real_mean']:.1f} ± {row['real_std']:.1f}"
    return name, str(row["number"]), f"{row['real_frames']:,}", f"{row['dream_mean']:.1f}", real


def _model_figures(
    source: str,
    agent: str | None,
    horizons: str,
    samples: int,
    context: int | None,
    temperature: float,
    seed: int,
) -> dict[str, Any]:
    from dreamenv.agents.resolve import RANDOM, resolve_agent
    from dreamenv.errors import ConfigurationError
    from dreamenv.figures.model import open_loop_figure, reconstruction_figure, record_episodes
    from dreamenv.scoring.horizons import check_horizons
    from dreamenv.world_model import WorldModel

    try:
        steps = check_horizons([int(part) for part in horizons.split(",")])
    except ValueError as error:
        raise ConfigurationError(f"--horizons {horizons}: expected whole numbers like 1,5,15,50") from error
    model = WorldModel.load(source)
    player = resolve_agent(agent, model, source=source, otherwise=RANDOM)
    before = model.real.first_moment if context is None else context
    least = before + steps[-1]
    episodes = record_episodes(model, least=least, seed=seed, agent=None if player.blind else player)
    figures = {"reconstructions": reconstruction_figure(model, episodes)} if model.vision.is_image else {}
    figures["open_loop"] = open_loop_figure(
        model, episodes[0], horizons=steps, context=context, samples=samples, seed=seed, temperature=temperature
    )
    return figures
