"""`dreamenv demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile, Seed, Workers, dream_ids
from dreamenv.cli.overview import TRAIN


@app.command(rich_help_panel=TRAIN)
def demo(
    model: Annotated[
        str, typer.Argument(metavar="ID|BUNDLE", autocompletion=dream_ids, help="The dream to evolve in.")
    ] = "DreamDoom-v0",
    out: Annotated[Path, typer.Option(callback=places.folder, help="Folder of report, video and agent.")] = Path(
        "demo"
    ),
    minutes: Annotated[float, typer.Option(help="Minutes of evolution.")] = 4.0,
    episodes: Annotated[int, typer.Option(min=1, help="Real episodes of each score.")] = 20,
    population: Annotated[int, typer.Option(min=4, help="Candidates per generation.")] = 48,
    rollouts: Annotated[int, typer.Option(min=1, help="Dreams per candidate.")] = 24,
    horizon: Annotated[int | None, typer.Option(min=1, help="Longest dream in actions.")] = None,
    validation_episodes: Annotated[
        int, typer.Option(min=0, help="Real episodes that choose the agent, every tenth generation; 0: none.")
    ] = 0,
    video_steps: Annotated[int, typer.Option(min=1, help="Most actions in the video.")] = 400,
    workers: Workers = None,
    seed: Seed = 0,
    json_file: JsonFile = None,
) -> None:
    """Evolve an agent in a dream, score and film it on the real environment, write a report.

    A random policy is scored next to it.

    The same command continues an interrupted demonstration.

    Example: dreamenv demo DreamDoom-v0 --minutes 4 --out demo
    """
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Countdown, Progress
    from dreamenv.figures.report import summarise
    from dreamenv.workflows.demo import REPORT_FILE, VIDEO_FILE, DemoOptions, run_demo

    output = Output(json_file)
    bars: dict[str, Progress | Countdown] = {}

    def on_progress(stage: str, reached: int, total: int | None, text: str) -> None:
        if stage not in bars:
            for bar in bars.values():
                bar.close()
            bars[stage] = Countdown(stage, minutes * 60) if stage == "evolve" else Progress(stage, total, "episode")
        bars[stage].update(reached, f"generation {reached}, {text}" if stage == "evolve" else text)

    options = DemoOptions(
        minutes=minutes,
        episodes=episodes,
        seed=seed,
        population=population,
        rollouts=rollouts,
        horizon=horizon,
        validation_episodes=validation_episodes,
        video_steps=video_steps,
    )
    result = run_demo(model, out, options, workers=workers, progress=on_progress, report=output.line)
    for bar in bars.values():
        bar.close()
    output.line(summarise(result))
    output.line("seconds: " + ", ".join(f"{stage} {taken:.0f}" for stage, taken in result["seconds"].items()))
    output.line(f"report: {out / REPORT_FILE}   video: {out / VIDEO_FILE}")
    output.next("serve", model, "--agent", out / "agent")
    output.figures(result)
