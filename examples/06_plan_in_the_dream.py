"""No agent is trained here: at every step of a real episode a planner dreams ahead, in the dream of example 02.

Run first: 02_collect_and_train.py
Takes: under a minute.

python examples/06_plan_in_the_dream.py [--out FOLDER] [--planner NAME] [--episodes N]
"""

import argparse
from pathlib import Path

from dreamenv import WorldModel, evaluate, load_agent
from dreamenv.scoring.dream_score import dream_returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/examples"))
    parser.add_argument(
        "--planner",
        default="planner:cem,horizon=15,candidates=64,elites=8,iterations=3",
        help="planner:shooting, planner:cem, planner:mppi or planner:mcts, and its settings",
    )
    parser.add_argument("--episodes", type=int, default=5)
    arguments = parser.parse_args()
    if not (arguments.out / "bundle").exists():
        parser.error(f"{arguments.out / 'bundle'} is not there: run 02_collect_and_train.py first")

    # The agent reads observations of kind "state": all that M remembers of the episode so far.
    model = WorldModel.load(arguments.out / "bundle")
    planner = load_agent(arguments.planner, world_model=model)
    dreamed = dream_returns(model, planner, episodes=arguments.episodes)
    print(f"{arguments.planner}, in the dream: {dreamed.mean():.1f}")
    # In reality it plans in the same dream, from where V and M see the real episode.
    score = evaluate(model, planner, episodes=arguments.episodes)
    print(f"in reality: {score.mean:.1f} ± {score.std:.1f}, {score.ms_per_decision:.1f} ms per decision")


if __name__ == "__main__":  # the workers that play import this file
    main()
