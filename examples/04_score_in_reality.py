"""The moment of truth: the agent of example 03, unchanged, on the real environment, next to a random one.

Run first: 03_evolve_in_the_dream.py
Takes: under a minute.

python examples/04_score_in_reality.py [--out FOLDER] [--episodes N]
"""

import argparse
from pathlib import Path

from dreamenv import WorldModel, evaluate, load_agent
from dreamenv.scoring.dream_score import dream_returns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/examples"))
    parser.add_argument("--episodes", type=int, default=20)
    arguments = parser.parse_args()

    bundle, agent = arguments.out / "bundle", arguments.out / "agent"
    if not agent.exists():
        parser.error(f"{agent} is not there: run 02_collect_and_train.py and 03_evolve_in_the_dream.py first")
    dreamed = dream_returns(WorldModel.load(bundle), load_agent(agent), episodes=arguments.episodes)
    print(f"in the dream: {dreamed.mean():.1f}")
    # The agent sees the real environment through V and M: the observations are those of the dream.
    for name, player in (("the agent", agent), ("a random policy", "random")):
        score = evaluate(bundle, player, episodes=arguments.episodes)
        low, high = score.ci95
        print(
            f"in reality, {name}: {score.mean:.1f} ± {score.std:.1f} (95% interval of the mean {low:.1f} to {high:.1f})"
        )
        print(f"  real frames it took: {score.real_frames}")


if __name__ == "__main__":  # the workers that play import this file
    main()
