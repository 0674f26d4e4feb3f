"""`dreamenv eval`."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile, Seed, Workers


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Argument(metavar="ID|BUNDLE", help="The world model the agent sees through.")],
    agent: Annotated[
        str | None,
        typer.Option(help="Agent's path or id, random, or planner:cem,horizon=12; the shipped one by default."),
    ] = None,
    algo: Annotated[
        str | None,
        typer.Option(help="Algorithm of stable-baselines3 that saved --agent: ppo, sac, dqn, ... (it is unpickled)."),
    ] = None,
    episodes: Annotated[int, typer.Option(min=1, help="Real episodes.")] = 100,
    seed: Seed = 0,
    workers: Workers = None,
    json_file: JsonFile = None,
) -> None:
    """Score an agent on the real environment, on seeds that neither trained nor chose anything.

    Example: dreamenv eval DreamDoom-v0 --episodes 100 --json doom.json

    Example: dreamenv eval DreamDoom-v0 --agent ppo.zip --algo ppo

    Planners (planner:shooting, planner:cem, planner:mppi, planner:mcts) dream ahead in the model itself; their settings
    follow, such as planner:mcts,simulations=32,horizon=10,seed=1.
    """
    from dreamenv.cli.output import Output
    from dreamenv.cli.progress import Progress
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
        workers=workers,
        progress=on_episode,
        report=output.line,
    )
    bar.close()
    low, high = score.ci95
    output.line(
        f"{score.real_id}, agent {score.agent}: {score.mean:.1f} ± {score.std:.1f} over {score.episodes} episodes "
        f"(95% interval of the mean {low:.1f} to {high:.1f})"
    )
    if score.real_frames is not None:
        output.line(f"real frames consumed by model and agent: {score.real_frames:,}")
    output.line(f"{score.ms_per_decision:.2f} ms a decision")
    output.figures(score.to_json())
