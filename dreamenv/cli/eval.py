"""`dreamenv eval`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile, Seed, Workers, dream_ids
from dreamenv.cli.overview import MEASURE

if TYPE_CHECKING:
    from dreamenv.scoring.score import Score


@app.command("eval", rich_help_panel=MEASURE)
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="ID|BUNDLE", autocompletion=dream_ids, help="The world model that the agent sees through."
        ),
    ],
    agent: Annotated[
        str | None,
        typer.Option(help="Agent's path or id, random, or planner:cem,horizon=12; the shipped one by default."),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(help="Algorithm of stable-baselines3 that saved --agent: ppo, sac, dqn, ... (it is unpickled)."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Real episodes.")] = 100,
    real: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A change of the real environment, such as kwargs.domain_randomize=true; as many as wanted.",
        ),
    ] = None,
    at_once: Annotated[
        int,
        typer.Option(min=1, help="Episodes that a planner plays side by side in each process, many times faster."),
    ] = 1,
    seed: Seed = 0,
    workers: Workers = None,
    json_file: JsonFile = None,
) -> None:
    """Score an agent on the real environment.

    The episodes are kept for scores: no model or agent has learned from them, or was chosen by them.

    Example: dreamenv eval DreamDoom-v0 --episodes 100 --json doom.json

    Example: dreamenv eval DreamDoom-v0 --agent ppo.zip --algo ppo

    Planners (planner:shooting, cem, mppi, gradient, ilqr, mcts) dream ahead in the model itself; their settings
    follow, such as planner:mcts,simulations=32,horizon=10,seed=1.
    """
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress
    from dreamenv.options import parse_settings
    from dreamenv.scoring.score import EpisodeResult
    from dreamenv.scoring.score import evaluate as score_agent

    output = Output(json_file)
    bar = Progress("eval", episodes, "episode")
    returns: list[float] = []

    def on_episode(result: EpisodeResult) -> None:
        returns.append(result.undiscounted_return)
        bar.update(len(returns), f"mean so far {sum(returns) / len(returns):.1f}")

    score = score_agent(
        model,
        agent,
        algo=algo,
        episodes=episodes,
        seed=seed,
        real=parse_settings(real or []),
        at_once=at_once,
        workers=workers,
        progress=on_episode,
        report=output.line,
    )
    bar.close()
    output.line(f"{score.real_id}, agent {score.agent}: {_shown(score)}")
    # Before anything else can fail: the episodes cost time
    output.figures(score.to_json())
    for line in _yardsticks(model, score.agent):
        output.line(line)
    frames = "not known, since one of them does not say" if score.real_frames is None else f"{score.real_frames:,}"
    output.line(f"real frames consumed by model and agent: {frames}")
    output.line(f"{score.ms_per_decision:.2f} ms per decision")
    if agent != "random":
        chosen = [] if agent is None else ["--agent", agent, *([] if algo is None else ["--algo", algo])]
        output.next("gap", model, *chosen, "--html", "gap.html")


def _shown(score: Score) -> str:
    """The score; a single episode has neither spread nor interval."""
    if score.episodes == 1:
        return f"{score.mean:.1f} in 1 episode"
    low, high = score.ci95
    return (
        f"{score.mean:.1f} ± {score.std:.1f} over {score.episodes} episodes "
        f"(95% interval of the mean {low:.1f} to {high:.1f})"
    )


def _yardsticks(model: str, agent: str) -> list[str]:
    """What else this real environment gives, as the bundle records it; how to measure it, where it does not."""
    from dreamenv.bundle import resolve_bundle
    from dreamenv.bundle_config import read_config

    provenance = read_config(resolve_bundle(model)[0])["provenance"]
    known = (("random", provenance.get("baseline")), ("the shipped agent", provenance.get("score")))
    recorded = [
        f"{name} {found['mean']:.1f} ± {found['std']:.1f} over {found['episodes']} episodes"
        for name, found in known
        if found is not None and not (name == agent == "random")
    ]
    if recorded:
        return [f"for comparison, from the bundle: {', '.join(recorded)}"]
    return [] if agent == "random" else [f"for comparison: dreamenv eval {model} --agent random"]
