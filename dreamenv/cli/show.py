"""`dreamenv list`, `dreamenv video` and `dreamenv plot`: what there is, and how it looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dreamenv.cli import app
from dreamenv.registry import DreamEntry


@app.command("list")
def list_dreams(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The registered dreams, and what each bundle holds.

    Example: dreamenv list --json
    """
    from dreamenv.registry import entries

    dreams = [_describe(entry) for entry in entries().values()]
    if as_json:
        print(json.dumps(dreams, indent=2))
        return
    rows = [("id", "latent twin", "real environment", "bundle", "real frames", "shipped agent's score")]
    for dream in dreams:
        size = f"{dream['bundle_bytes'] / 1e6:.1f} MB" if dream["bundle_present"] else "not there"
        frames = "-" if dream["real_frames"] is None else f"{dream['real_frames']:,}"
        rows.append((dream["id"], dream["latent_id"], dream["real_id"], size, frames, _show_score(dream["score"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def video(
    model: Annotated[str, typer.Argument(metavar="ID|BUNDLE", help="The dream, and the model the agent sees through.")],
    out: Annotated[Path, typer.Option(help="A .mp4 or .gif file.")],
    what: Annotated[str, typer.Option(help="dream, real or both (side by side).")] = "both",
    agent: Annotated[str | None, typer.Option(help="Its path or id, planner:cem, random; the shipped one.")] = None,
    algo: Annotated[str | None, typer.Option(help="Algorithm of stable-baselines3 that saved --agent.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Most actions to show.")] = None,
    skip: Annotated[int, typer.Option(min=0, help="Actions to leave out at the beginning.")] = 0,
    view: Annotated[str, typer.Option(help="Reality as seen (by V) or rendered (its own picture).")] = "seen",
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of a picture in pixels.")] = 256,
    temperature: Annotated[float | None, typer.Option(help="Of the dream; the model's own by default.")] = None,
    dreams: Annotated[int, typer.Option(min=1, max=100, help="A grid of so many dreams instead.")] = 1,
    temperatures: Annotated[str | None, typer.Option(help="A dream at each, such as 0.1,0.5,1,1.3.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=4999)] = 0,
) -> None:
    """Film an agent in the dream, in the real environment, or in both from the same first frame.

    With --dreams a grid of dreams that begin at different moments; with --temperatures dreams of one moment.

    Example: dreamenv video DreamDoom-v0 --out doom.gif --steps 150
    """
    from dreamenv.agents.resolve import load_agent
    from dreamenv.envs.render import frames_per_second
    from dreamenv.errors import ConfigurationError, did_you_mean
    from dreamenv.figures.clips import RANDOM, record_dream, record_real
    from dreamenv.figures.video import grid, write_video
    from dreamenv.types import episode_seeds
    from dreamenv.world_model import WorldModel

    kinds = ("dream", "real", "both")
    if what not in kinds:
        raise ConfigurationError(f"--what {what}: not known. {did_you_mean(what, kinds)}")
    world_model = WorldModel.load(model)
    name = model if agent is None else agent
    player = RANDOM if name == RANDOM else load_agent(name, algo=algo, world_model=world_model)
    episode = episode_seeds("validation", seed, 1)[0]
    length = None if steps is None else skip + steps
    clips = {}
    if dreams > 1 or temperatures is not None:
        what = "grid"
        taus = [temperature] if temperatures is None else _numbers("--temperatures", temperatures)
        for tau in taus:
            for place, own in enumerate(episode_seeds("validation", seed, dreams)):
                label = f"dream {place}" if temperatures is None else f"τ {tau:g}"
                clips[(tau or 0.0, place, label)] = record_dream(
                    world_model, player, seed=own, steps=length, temperature=tau, size=size
                )
    if what in ("real", "both"):
        clips[(0.0, 1, "reality")] = record_real(world_model, player, seed=episode, steps=length, view=view, size=size)
    if what in ("dream", "both"):
        first = next((clip.first_observation for clip in clips.values()), None)
        clips[(0.0, 0, "dream")] = record_dream(
            world_model, player, seed=episode, steps=length, first_observation=first, temperature=temperature, size=size
        )
    sides = []
    for (_, _, label), clip in sorted(clips.items()):
        begin = min(skip, len(clip.frames) - 1)
        sides.append((clip.frames[begin:], label, clip.captions()[begin:]))
        print(f"{label}: {len(clip.rewards)} actions, return {clip.undiscounted_return:.1f}")
    frames = grid(sides, columns=2 if what == "both" else None)
    file = write_video(out, frames, frames_per_second(world_model.real))
    print(f"{file}: {len(frames)} frames, {file.stat().st_size / 1e6:.2f} MB")


def _numbers(option: str, text: str) -> list[float]:
    from dreamenv.errors import ConfigurationError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigurationError(f"{option} {text}: expected numbers with commas between them") from error


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
    seed: Annotated[int, typer.Option(min=0, max=4999)] = 0,
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
    from dreamenv.agents.resolve import AGENT_FILE
    from dreamenv.bundle import resolve_bundle
    from dreamenv.errors import ConfigurationError
    from dreamenv.figures.model import open_loop_figure, reconstruction_figure, record_episodes
    from dreamenv.scoring.horizons import check_horizons
    from dreamenv.world_model import WorldModel

    try:
        steps = check_horizons([int(part) for part in horizons.split(",")])
    except ValueError as error:
        raise ConfigurationError(f"--horizons {horizons}: expected whole numbers like 1,5,15,50") from error
    model = WorldModel.load(source)
    if agent is None and (resolve_bundle(source)[0] / AGENT_FILE).exists():
        agent = source
    driver = None if agent == "random" else agent
    before = model.real.first_moment if context is None else context
    episodes = record_episodes(model, least=before + steps[-1], seed=seed, source=source, agent=driver)
    if model.vision.is_image:
        _save({"reconstructions": reconstruction_figure(model, episodes)}, out)
    figure = open_loop_figure(
        model, episodes[0], horizons=steps, context=context, samples=samples, seed=seed, temperature=temperature
    )
    _save({"open_loop": figure}, out)


def _describe(entry: DreamEntry) -> dict[str, Any]:
    """A dream's entry and what its bundle says of itself; the model is not loaded."""
    config = entry.checkpoint / "config.json"
    agent = _agent_provenance(entry.checkpoint / "agent.safetensors")
    provenance = json.loads(config.read_text(encoding="utf-8")).get("provenance", {}) if config.exists() else {}
    present = config.exists() and (entry.checkpoint / "model.safetensors").exists()
    files = [file for file in entry.checkpoint.iterdir() if file.is_file()] if present else []
    return {
        "id": entry.id,
        "latent_id": entry.section.latent_id,
        "real_id": entry.section.real.id,
        "bundle": str(entry.checkpoint),
        "bundle_present": present,
        "bundle_bytes": sum(file.stat().st_size for file in files),
        "real_frames": _real_frames(provenance, agent),
        "score": _score(provenance, agent),
    }


def _agent_provenance(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    from safetensors import SafetensorError, safe_open

    from dreamenv.errors import BundleError

    try:
        with safe_open(file, framework="np") as opened:
            return dict(json.loads((opened.metadata() or {}).get("provenance", "{}")))
    except (SafetensorError, ValueError) as error:
        raise BundleError(f"{file}: not a whole safetensors file (cut short?): {error}") from error


def _real_frames(provenance: dict[str, Any], agent: dict[str, Any] | None) -> int | None:
    """Real frames that model and agent consumed together; None when one of them does not say."""
    total = 0
    for part in (provenance, {"real_frames": 0} if agent is None else agent):
        frames = part.get("real_frames")
        if frames is None:
            return None
        total += sum(frames.values()) if isinstance(frames, dict) else int(frames)
    return total


def _score(provenance: dict[str, Any], agent: dict[str, Any] | None) -> dict[str, Any] | None:
    """Mean, and where they are known std and episodes, of the real score that the bundle records."""
    for key, role in (("score", "evaluation"), ("validation", "validation")):
        for part in (provenance, agent or {}):
            if isinstance(part.get(key), dict) and "mean" in part[key]:
                return {name: part[key].get(name) for name in ("mean", "std", "episodes")} | {"of": role}
    return None


def _show_score(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    spread = f" ± {score['std']:.0f}" if score["std"] is not None else ""
    episodes = f", {score['episodes']} episodes" if score["episodes"] is not None else ""
    return f"{score['mean']:.0f}{spread} ({score['of']}{episodes})"
