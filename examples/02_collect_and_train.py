"""From a real environment to a world model: collect episodes, fit V and M, save the bundle.

CartPole's observations are vectors, so V is the identity and only M is fitted. Pictures work the same way.

Takes: under a minute.

python examples/02_collect_and_train.py [--out FOLDER] [--frames N] [--steps N]
"""

import argparse
from pathlib import Path

from dreamenv import RealEnvSpec, TrainOptions, collect, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/examples"))
    parser.add_argument("--frames", type=int, default=6000, help="real frames to collect")
    parser.add_argument("--steps", type=int, default=600, help="optimiser steps of M")
    arguments = parser.parse_args()

    real = RealEnvSpec("CartPole-v1")
    # Random actions, held for a while; each episode is one file, and the same call continues an interrupted one.
    found = collect(real, arguments.out / "episodes", frames=arguments.frames, seed=0)
    print(f"{found.episodes} real episodes, {found.real_frames} real frames, mean return {found.mean_return:.1f}")

    options = TrainOptions(
        "mdn_rnn",
        {
            "memory": {"hidden_size": 64, "mixtures": 3, "reward_head": "mse"},
            "fit_memory": {
                "steps": arguments.steps,
                "batch_size": 32,
                "sequence_length": 32,
                "precision": "float32",
            },
        },
    )
    # Dreams may last longer than the random episodes, which fell over soon.
    model = train(real, arguments.out, options, max_episode_steps=200, tensorboard=False)
    held_out = model.provenance["held_out"]
    print(f"bundle: {arguments.out / 'bundle'}   latent loss on held-out episodes {held_out['latent_nll']:.2f} nats")


if __name__ == "__main__":  # the workers that collect import this file
    main()
