"""`dreamenv plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dreamenv.cli import app
from dreamenv.cli.options import Seed


@app.command()
def plot(
    name: Annotated[str | None, typer.Argument(metavar="[ID|BUNDLE]", help="The dream; needless with --run.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures.")] = Path("plots"),
    bundle: Annotated[Path | None, typer.Option(help="Another bundle to use instead of the dream's.")] = None,
    agent: Annotated[str | None, typer.Option(help="What drives, with a little noise; or random.")] = None,
    horizons: Annotated[str, typer.Option(help="Dreamed actions after which to compare.")] = "1,5,15,50",
    samples: Annotated[int, typer.Option(min=1, help="Dreams of the same moment.")] = 3,
    context: Annotated[int | None, typer.Option(min=0, help="Real actions before the dream.")] = None,
    temperature: Annotated[float, typer.Option(help="Of the dreams.")] = 1.0,
    runs: Annotated[
        list[str] | None,
        typer.Option("--run", help="Folder of train, evolve or loop, or a loop's bundle or id; several to compare."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Pictures of what a model has learned, or of how runs went, as PNG and SVG.

    Of a model: reconstructions and open_loop. Of runs: training (losses of V and M), evolution, rounds (the loop's
    table) and dream_against_real (both scores of the same agents), whichever a run holds.

    Example: dreamenv plot DreamDoom-v0 --out docs/images/doom
    """
    from dreamenv.errors import ConfigurationError

    source = str(bundle) if bundle is not None else name
    if source is None and not runs:
        raise ConfigurationError("give a dream's id, --bundle or --run")
    if source is not None:
        _plot_model(source, out, agent, horizons, samples, context, temperature, seed)
    if runs:
        _plot_runs(runs, out)


def _plot_runs(runs: list[str], out: Path) -> None:
    from dreamenv.errors import BundleError
    from dreamenv.figures import runs as curves
    from dreamenv.figures.model import evolution_figure, read_evolution

    folders = dict(map(_run_folder, runs))
    made_by = ("rounds.json", "config.json")
    loops = {n: curves.read_rounds(f) for n, f in folders.items() if any((f / part).exists() for part in made_by)}
    figures: dict[str, Any] = {"rounds": curves.rounds_figure(loops)} if loops else {}
    scores = {name: [(row["dream_mean"], row["real_mean"]) for row in table] for name, table in loops.items()}
    for name, run in folders.items():
        suffix = f"_{name}" if len(runs) > 1 else ""
        figures[f"training{suffix}"] = curves.training_figure(curves.read_scalars(run), str(run))
        folder = run / "agent" if (run / "agent").is_dir() else run
        if (folder / "evolution.json").exists():
            history = read_evolution(folder)
            figures[f"evolution{suffix}"] = evolution_figure(history, str(run))
            scores.setdefault(name, []).extend(
                (row["dream_mean"], row["validation_mean"]["mean"]) for row in history if row.get("validation_mean")
            )
    scores = {name: pairs for name, pairs in scores.items() if pairs}
    if scores:
        figures["dream_against_real"] = curves.dream_against_real_figure(scores)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    if not drawn:
        raise BundleError(
            f"{', '.join(runs)}: nothing to draw; expected rounds.json (loop), evolution.json (evolve) or a "
            "tensorboard folder (train)"
        )
    if loops:
        print(curves.rounds_table(loops))
    _save(drawn, out)


def _run_folder(run: str) -> tuple[str, Path]:
    """Name and folder of a run directory, or of the bundle of a registered id."""
    from dreamenv import registry

    if run in registry.entries():
        return run, registry.find(run).checkpoint
    return Path(run).name, Path(run)


def _save(figures: dict[str, Any], out: Path) -> None:
    from dreamenv.figures.canvas import save_figures

    for file in save_figures(figures, out):
        print(file)


def _plot_model(
    source: str,
    out: Path,
    agent: str | None,
    horizons: str,
    samples: int,
    context: int | None,
    temperature: float,
    seed: int,
) -> None:
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
    if model.vision.is_image:
        _save({"reconstructions": reconstruction_figure(model, episodes)}, out)
    figure = open_loop_figure(
        model, episodes[0], horizons=steps, context=context, samples=samples, seed=seed, temperature=temperature
    )
    _save({"open_loop": figure}, out)
