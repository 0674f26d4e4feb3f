"""Stable-Baselines3 on small real tasks, with the settings of RL Zoo: curves to hold a dream's agent against.

python docs/baselines.py CartPole-v1 dqn --steps 30000 --out runs/dqn_cartpole --json curve.json

Settings are those of DLR-RM/rl-baselines3-zoo, hyperparams/dqn.yml, ppo.yml and sac.yml at commits 019107e and 00128b5,
of the version of the task that is there. The Zoo has none of MuJoCo's pendulums and reacher for SAC: the library's
defaults take their place. Exploration and learning rates fall over `--steps`. Points are means over 20 real episodes of
the deterministic policy, and the score is over the evaluation episodes of `dreamenv eval` with the same seed; nothing
is learned from either.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from dreamenv.files import write_json
from dreamenv.sb3 import algorithm
from dreamenv.scoring.score import returns_summary
from dreamenv.types import episode_seeds

_EPISODES = 20


def falling(first: float) -> Callable[[float], float]:
    """From `first` to 0 over the run."""
    return lambda remaining: first * remaining


@dataclass(frozen=True)
class Settings:
    """How an algorithm is set up.

    Attributes:
        algorithm: Arguments of its class.
        envs: Environments at once.
        normalised: Whether observations and rewards are divided by their running spread.
    """

    algorithm: dict[str, Any] = field(default_factory=dict)
    envs: int = 1
    normalised: bool = False


_DQN: dict[str, Any] = {"learning_starts": 0, "gamma": 0.99, "train_freq": 16}
_DQN_POLES = _DQN | {
    "learning_rate": 2.5e-4,
    "batch_size": 512,
    "buffer_size": 100_000,
    "target_update_interval": 5000,
    "gradient_steps": 4,
    "exploration_fraction": 0.06,
    "exploration_final_eps": 0.11,
}
_DQN_LANDER = _DQN | {
    "learning_rate": 8.8e-4,
    "batch_size": 32,
    "buffer_size": 1_000_000,
    "target_update_interval": 10_000,
    "gradient_steps": -1,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.1,
    "policy_kwargs": {"net_arch": [256, 256]},
}
_PPO_CARTPOLE = {
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "ent_coef": 0.0,
    "learning_rate": falling(0.001),
    "clip_range": falling(0.2),
}
_PPO_ACROBOT = {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0}
_PPO_LANDER = {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01}

SETTINGS = {
    ("CartPole-v1", "dqn"): Settings(_DQN_POLES),
    ("CartPole-v1", "ppo"): Settings(_PPO_CARTPOLE, envs=8),
    ("Acrobot-v1", "dqn"): Settings(_DQN_POLES),
    ("Acrobot-v1", "ppo"): Settings(_PPO_ACROBOT, envs=16, normalised=True),
    ("LunarLander-v3", "dqn"): Settings(_DQN_LANDER),
    ("LunarLander-v3", "ppo"): Settings(_PPO_LANDER, envs=16),
    ("Pendulum-v1", "sac"): Settings({"learning_rate": 1e-3}),
    ("InvertedPendulum-v5", "sac"): Settings(),
    ("InvertedDoublePendulum-v5", "sac"): Settings(),
    ("Reacher-v5", "sac"): Settings(),
}


class Curve(BaseCallback):
    """Scores the deterministic policy at about equal distances, between rollouts.

    Args:
        score: Returns of the policy in the episodes of the seeds that it is given.
        seeds: Of the episodes of each point.
        every: Real steps between points.
    """

    def __init__(self, score: Callable[[Sequence[int]], list[float]], seeds: Sequence[int], *, every: int) -> None:
        super().__init__()
        self.points: list[dict[str, Any]] = []
        self._score, self._seeds, self._every = score, seeds, every

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._every * (len(self.points) + 1):
            self.take()

    def _on_step(self) -> bool:
        return True

    def take(self) -> None:
        """Add a point, unless there is one of so many steps."""
        if not self.points or self.points[-1]["real_steps"] != self.num_timesteps:
            self.points.append({"real_steps": self.num_timesteps} | returns_summary(self._score(self._seeds)))
            print(f"{self.num_timesteps:,} real steps: {self.points[-1]['mean']:.1f}", flush=True)


def learn(
    env_id: str, algo: str, settings: Settings, *, steps: int, points: int, seed: int
) -> tuple[BaseAlgorithm, list[dict[str, Any]], Callable[[Sequence[int]], list[float]]]:
    """The policy after `steps` real steps, the points of its curve, and what plays it in the episodes of seeds."""
    envs: Any = make_vec_env(env_id, n_envs=settings.envs, seed=seed)
    if settings.normalised:
        envs = VecNormalize(envs)
    model: Any = algorithm(algo, envs.action_space)("MlpPolicy", envs, seed=seed, device="cpu", **settings.algorithm)

    def score(seeds: Sequence[int]) -> list[float]:
        return [played(model, env_id, envs if settings.normalised else None, number) for number in seeds]

    curve = Curve(score, episode_seeds("validation", seed, _EPISODES), every=max(1, steps // points))
    model.learn(steps, callback=curve)
    curve.take()
    envs.close()
    return model, curve.points, score


def played(model: BaseAlgorithm, env_id: str, normalised: VecNormalize | None, seed: int) -> float:
    """Real return of the deterministic policy in the episode of `seed`."""
    env = gym.make(env_id)
    seen, _ = env.reset(seed=seed)
    total, over = 0.0, False
    while not over:
        action, _ = model.predict(seen if normalised is None else normalised.normalize_obs(seen), deterministic=True)
        seen, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    env.close()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted({task for task, _ in SETTINGS}))
    parser.add_argument("algo", choices=sorted({algo for _, algo in SETTINGS}))
    parser.add_argument("--steps", type=int, required=True, help="real steps of training")
    parser.add_argument("--points", type=int, default=10, help="of the curve")
    parser.add_argument("--episodes", type=int, default=100, help="of the score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the policy")
    parser.add_argument("--json", type=Path, help="write the curve and the score to this file")
    given = parser.parse_args()
    settings = SETTINGS.get((given.task, given.algo))
    if settings is None:
        parser.error(f"there are no settings of {given.algo} for {given.task}")
    if min(given.steps, given.points, given.episodes) < 1:
        parser.error("--steps, --points and --episodes must be at least 1")
    model, points, score = learn(
        given.task, given.algo, settings, steps=given.steps, points=given.points, seed=given.seed
    )
    found = returns_summary(score(episode_seeds("evaluation", given.seed, given.episodes)))
    low, high = found["ci95"]
    print(f"{given.algo} on {given.task}: {found['mean']:.1f} ± {found['std']:.1f} ({low:.1f} to {high:.1f})")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        model.save(given.out / "agent.zip")
    if given.json:
        write_json(given.json, {"task": given.task, "algo": given.algo, "points": points} | found)


if __name__ == "__main__":
    main()
