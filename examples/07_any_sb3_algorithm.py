"""Any algorithm of Stable-Baselines3, in the dream or by the same lines in reality; the score is that of reality.

Takes: ten minutes for a million actions of PPO and both scores.

python examples/07_any_sb3_algorithm.py --id DreamDoom-v0 --algo ppo --steps 1000000
python examples/07_any_sb3_algorithm.py --id DreamCarRacing-v0 --algo ppo --start first
python examples/07_any_sb3_algorithm.py --id DreamCarRacing-v0 --algo sac --steps 100000
python examples/07_any_sb3_algorithm.py --id DreamDoom-v0 --algo recurrent_ppo --observation pixels --steps 200000
python examples/07_any_sb3_algorithm.py --id DreamDoom-v0 --algo ppo --steps 20000 --in reality --envs 2
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from dreamenv import WorldModel, evaluate, load_agent, registry
from dreamenv.sb3 import ALGORITHMS, DreamVecEnv, RealFramesCallback, algorithm
from dreamenv.scoring import bootstrap_interval
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.types import STARTS

# What differs from the defaults of Stable-Baselines3: those are for a few environments, not for a batch of them.
ROLLOUTS = {"n_steps": 64, "batch_size": 2048, "gamma": 0.995}
CLIPPED = ROLLOUTS | {"n_epochs": 8, "ent_coef": 0.01, "learning_rate": 5e-4}
REPLAY = {"buffer_size": 100_000, "learning_starts": 5_000, "batch_size": 256, "gradient_steps": 16, "gamma": 0.995}
VALUES = REPLAY | {
    "train_freq": 1,
    "learning_rate": 5e-4,
    "target_update_interval": 2_000,
    "exploration_fraction": 0.3,
}
SETTINGS = {
    "a2c": {"n_steps": 16, "gamma": 0.995},
    "dqn": VALUES,
    "ppo": CLIPPED,
    "qrdqn": VALUES,
    "recurrent_ppo": CLIPPED,
    "trpo": ROLLOUTS,
}


def make_envs(name: str, where: str, envs: int, observation: str, start: str) -> VecEnv:
    """The dream `name`, or its real twin: nothing else differs."""
    if where == "reality":
        twin = registry.find(name).section.latent_id
        return make_vec_env(f"dreamenv:{twin}", n_envs=envs, env_kwargs={"observation": observation})
    return DreamVecEnv(name, num_envs=envs, observation=observation, start=start)


def summary(returns: np.ndarray) -> dict[str, Any]:
    """Mean, sample standard deviation and 95% bootstrap interval of the mean, by the names of `Score`."""
    mean, spread = float(returns.mean()), float(returns.std(ddof=1))
    return {"mean": mean, "std": spread, "ci95": list(bootstrap_interval(returns)), "episodes": len(returns)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="DreamDoom-v0", help="a dream's id, or the folder of a bundle")
    parser.add_argument("--algo", default="ppo", help=", ".join(ALGORITHMS))
    parser.add_argument("--observation", default="features", help="features, latent or pixels")
    parser.add_argument("--in", dest="where", choices=("dream", "reality"), default="dream")
    parser.add_argument("--start", choices=STARTS, default="initial", help="where dreams begin")
    parser.add_argument("--steps", type=int, default=1_000_000, help="actions of training")
    parser.add_argument("--envs", type=int, default=256)
    parser.add_argument("--episodes", type=int, default=100, help="of each score")
    parser.add_argument("--workers", type=int, default=2, help="processes that play the real episodes; 0: this one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/examples/sb3"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()

    envs = make_envs(arguments.id, arguments.where, arguments.envs, arguments.observation, arguments.start)
    kind = algorithm(arguments.algo, envs.action_space)
    settings = SETTINGS.get(arguments.algo, REPLAY)
    # Rewards alone are scaled: the agent is to see what the real twin shows.
    envs = VecNormalize(envs, norm_obs=False, gamma=settings["gamma"])
    network = "Cnn" if arguments.observation == "pixels" else "Mlp"
    memory = "Lstm" if arguments.algo == "recurrent_ppo" else ""
    begin = time.perf_counter()
    model = kind(f"{network}{memory}Policy", envs, seed=arguments.seed, device="cpu", **settings)
    model.learn(arguments.steps, callback=RealFramesCallback())
    seconds = time.perf_counter() - begin
    file = arguments.out / f"{arguments.algo}-{Path(arguments.id).name}.zip"
    model.save(file)
    print(f"{file}: {model.num_timesteps:,} actions in {arguments.where}, {seconds:,.0f} s")

    # The file alone is scored, as `dreamenv eval ID --agent FILE --algo ALGO` does.
    world_model = WorldModel.load(arguments.id)
    agent = load_agent(file, algo=arguments.algo)
    dreamed = dream_returns(world_model, agent, episodes=arguments.episodes, seed=arguments.seed)
    dream = summary(dreamed)
    low, high = dream["ci95"]
    print(f"dream: {dream['mean']:.1f} ± {dream['std']:.1f} (95% interval of the mean {low:.1f} to {high:.1f})")
    score = evaluate(arguments.id, file, algo=arguments.algo, episodes=arguments.episodes, workers=arguments.workers)
    low, high = score.ci95
    print(f"real:  {score.mean:.1f} ± {score.std:.1f} (95% interval of the mean {low:.1f} to {high:.1f})")
    print(f"real frames of model and agent: {score.real_frames}")
    if arguments.json:
        figures = {"actions": model.num_timesteps, "training_s": seconds, "dream": dream, "real": score.to_json()}
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":  # the workers that play import this file
    main()
