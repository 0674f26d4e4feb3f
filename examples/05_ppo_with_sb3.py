"""Any agent trains in a dream: PPO of Stable-Baselines3 in that of example 02, scored on the real environment.

Run first: 02_collect_and_train.py
Takes: under a minute.

python examples/05_ppo_with_sb3.py [--out FOLDER] [--steps N] [--episodes N]
"""

import argparse
from pathlib import Path

from stable_baselines3 import PPO

from dreamenv import evaluate
from dreamenv.sb3 import DreamVecEnv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/examples"))
    parser.add_argument("--steps", type=int, default=20_000, help="dreamed actions")
    parser.add_argument("--episodes", type=int, default=10, help="real episodes of the score")
    arguments = parser.parse_args()
    if not (arguments.out / "bundle").exists():
        parser.error(f"{arguments.out / 'bundle'} is not there: run 02_collect_and_train.py first")

    bundle = arguments.out / "bundle"
    dreams = DreamVecEnv(bundle, num_envs=32)
    model = PPO("MlpPolicy", dreams, n_steps=64, batch_size=256, n_epochs=5, seed=0, device="cpu")
    model.learn(arguments.steps)
    score = evaluate(bundle, model, episodes=arguments.episodes)
    print(f"PPO, trained on {model.num_timesteps} dreamed actions: {score.mean:.1f} ± {score.std:.1f} in reality")


if __name__ == "__main__":
    main()
