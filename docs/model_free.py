"""Stable-Baselines3 on the real environment, with the settings of RL Zoo: what one would pick instead of a dream.

python docs/model_free.py car recurrent_ppo --frames 1076619 --out runs/model_free/car --json score.json
python docs/model_free.py doom ppo --hours 3.3 --out runs/model_free/doom

Settings are those of DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml and ppo_lstm.yml at commit 22e3ff2, CarRacing-v3.
The Zoo has none for ViZDoom: its settings for Atari, pictures and buttons too, take their place. A budget is in real
frames or in hours of training, and the learning rate falls to 0 over it. The same command goes on where a run was
stopped; what is lost is the training since the last checkpoint, `--every` minutes at most. The score is that of the
last policy, over the evaluation episodes of `dreamenv eval` with the same seed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import GrayscaleObservation, ResizeObservation, TransformObservation
from stable_baselines3.common.atari_wrappers import ClipRewardEnv
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize
from torch import nn

from dreamenv import registry
from dreamenv.data.preprocess import make_raw_env
from dreamenv.files import atomic, read_json, write_json
from dreamenv.run_lock import alone_in
from dreamenv.sb3 import algorithm
from dreamenv.scoring.score import returns_summary
from dreamenv.types import episode_seeds

_MODEL = "model.zip"
# Training episodes of which a point of the learning curve is the mean
_RECENT = 100


class Repeat(gym.Wrapper[Any, Any, Any, Any]):
    """Each action for `times` frames or until the episode ends; rewards are summed, and `info` tells the frames."""

    def __init__(self, env: gym.Env[Any, Any], times: int) -> None:
        super().__init__(env)
        self._times = times

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        total, frames, terminated, truncated = 0.0, 0, False, False
        while frames < self._times and not (terminated or truncated):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total, frames = total + float(reward), frames + 1
        return observation, total, terminated, truncated, {**info, "real_frames": frames}


@dataclass(frozen=True)
class Settings:
    """How an algorithm is set up.

    Attributes:
        policy, algorithm: Arguments of the algorithm's class; learning rate and clip range are apart.
        learning_rate, clip_range: At the beginning; the learning rate falls to 0, and so does the clip range if
            `clip_falls`.
        repeat: Frames of an action.
        stack: Pictures that the policy sees, the newest last.
        size: Side of a picture in pixels.
        envs: Environments at once.
        key: Entry of a `Dict` observation that is the picture.
        rewards: "normalised" by the running spread of returns, or "signs".
        deterministic: Whether the scored policy takes its likeliest action; RL Zoo plays Atari by sampling.
    """

    policy: str
    algorithm: dict[str, Any]
    learning_rate: float
    clip_range: float
    repeat: int
    stack: int
    size: int
    clip_falls: bool = False
    envs: int = 8
    key: str | None = None
    rewards: str = "normalised"
    deterministic: bool = True


_CAR = {
    "batch_size": 128,
    "n_steps": 512,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "n_epochs": 10,
    "ent_coef": 0.0,
    "sde_sample_freq": 4,
    "max_grad_norm": 0.5,
    "vf_coef": 0.5,
    "use_sde": True,
}
_CAR_NETWORK = {"log_std_init": -2, "ortho_init": False, "activation_fn": nn.GELU}
_WIDE = {"net_arch": {"pi": [256], "vf": [256]}}
_LSTM = {"enable_critic_lstm": False, "lstm_hidden_size": 128}
_ATARI = {"n_steps": 128, "n_epochs": 4, "batch_size": 256, "vf_coef": 0.5, "ent_coef": 0.01}

DREAMS = {"car": "DreamCarRacing-v0", "doom": "DreamDoom-v0"}
SETTINGS = {
    ("car", "ppo"): Settings("CnnPolicy", _CAR | {"policy_kwargs": _CAR_NETWORK | _WIDE}, 1e-4, 0.2, 2, 2, 64),
    ("car", "recurrent_ppo"): Settings(
        "CnnLstmPolicy", _CAR | {"policy_kwargs": _CAR_NETWORK | _LSTM}, 1e-4, 0.2, repeat=1, stack=2, size=64
    ),
    ("doom", "ppo"): Settings(
        "CnnPolicy", _ATARI, 2.5e-4, 0.1, 4, 4, 84, clip_falls=True, key="screen", rewards="signs", deterministic=False
    ),
}


@dataclass
class Budget:
    """How much a run may use, and what it has used, calls before included.

    Attributes:
        frames, hours: The limit; one of them is None.
        used_frames: Real frames.
        used_s: Seconds of training.
        curve: Real frames, hours and the mean return of the last training episodes, at each checkpoint.
    """

    frames: int | None = None
    hours: float | None = None
    used_frames: int = 0
    used_s: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)

    def left(self) -> float:
        """Share of the budget that is left, in [0, 1]."""
        used = self.used_frames / self.frames if self.frames else self.used_s / 3600 / (self.hours or 1.0)
        return max(0.0, 1.0 - used)


class Run(BaseCallback):
    """Counts frames and seconds, saves between rollouts, and stops where the budget ends.

    Args:
        folder: The policy is saved here, with what goes along with it.
        budget: It is counted here.
        every_s: Least seconds between checkpoints.
    """

    def __init__(self, folder: Path, budget: Budget, *, every_s: float) -> None:
        super().__init__()
        self.folder, self.budget, self._every_s = folder, budget, every_s
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._begun = self._saved = 0.0

    def _on_training_start(self) -> None:
        self._saved = time.monotonic()
        self._begun = self._saved - self.budget.used_s

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            self.budget.used_frames += info["real_frames"]
            if "episode" in info:
                self._recent.append(float(info["episode"]["r"]))
        self.budget.used_s = time.monotonic() - self._begun
        return self.budget.left() > 0

    def _on_rollout_start(self) -> None:
        # The policy has learned from every frame so far; in the middle of a rollout it has not
        if time.monotonic() - self._saved >= self._every_s:
            self.save()
            self._saved = time.monotonic()

    def save(self) -> None:
        """Write the policy, its optimiser and what is used of the budget as one file, which is whole or not there."""
        budget = self.budget
        if self._recent:
            mean = float(np.mean(self._recent))
            budget.curve.append({"frames": budget.used_frames, "hours": budget.used_s / 3600, "recent_return": mean})
        model: Any = self.model
        model.provenance = {"used_frames": budget.used_frames, "used_s": budget.used_s, "curve": budget.curve}
        normalised = model.get_vec_normalize_env()
        if normalised is not None:
            spread = normalised.ret_rms
            model.provenance["returns"] = [float(spread.mean), float(spread.var), float(spread.count)]
        with atomic(self.folder / _MODEL) as temporary, temporary.open("wb") as file:
            model.save(file, exclude=["learning_rate", "lr_schedule", "clip_range"])
        recent = f"last episodes {budget.curve[-1]['recent_return']:.1f}" if budget.curve else "no episode ended yet"
        print(f"{budget.used_frames:,} real frames, {budget.used_s / 3600:.2f} h, {recent}", flush=True)


def make_envs(make: Callable[[], gym.Env[Any, Any]], settings: Settings, *, seed: int, envs: int) -> VecEnv:
    """Environments as the settings want them. A monitor below all wrappers sees real returns and single frames."""

    def wrap(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        env = Repeat(env, settings.repeat)
        if settings.rewards == "signs":
            env = ClipRewardEnv(env)
        if settings.key is not None:
            space: Any = env.observation_space
            env = TransformObservation(env, lambda seen: seen[settings.key], space[settings.key])
        return GrayscaleObservation(ResizeObservation(env, (settings.size, settings.size)), keep_dim=True)

    return VecFrameStack(make_vec_env(make, n_envs=envs, seed=seed, wrapper_class=wrap), settings.stack)


@alone_in("folder")
def learn(
    make: Callable[[], gym.Env[Any, Any]],
    algo: str,
    settings: Settings,
    budget: Budget,
    folder: Path,
    *,
    seed: int = 0,
    every_s: float = 180.0,
) -> BaseAlgorithm:
    """The policy at the end of the budget. A call that was killed goes on from its last checkpoint."""
    envs = make_envs(make, settings, seed=seed, envs=settings.envs)
    if settings.rewards == "normalised":
        envs = VecNormalize(envs, norm_obs=False, gamma=settings.algorithm.get("gamma", 0.99))

    def falling(first: float) -> Callable[[float], float]:
        # The budget may be one of hours, of which the algorithm knows nothing
        return lambda remaining: first * budget.left()

    rates = {
        "learning_rate": falling(settings.learning_rate),
        "clip_range": falling(settings.clip_range) if settings.clip_falls else settings.clip_range,
    }
    file = folder / _MODEL
    kind: Any = algorithm(algo, envs.action_space)
    if file.exists():
        model = kind.load(file, env=envs, device="cpu", **rates)
        kept = model.provenance
        budget.used_frames, budget.used_s, budget.curve = (kept[key] for key in ("used_frames", "used_s", "curve"))
        if isinstance(envs, VecNormalize):
            envs.ret_rms.mean, envs.ret_rms.var, envs.ret_rms.count = kept["returns"]
        model.set_random_seed(seed + budget.used_frames)  # other episodes than those of the call before
    else:
        folder.mkdir(parents=True, exist_ok=True)
        model = kind(settings.policy, envs, seed=seed, device="cpu", **settings.algorithm, **rates)
    if budget.left() > 0:
        run = Run(folder, budget, every_s=every_s)
        # The budget ends the training; the number of steps is only there to be large
        model.learn(10**12, callback=run, reset_num_timesteps=False)
        run.save()
    envs.close()
    return model


def score(
    model: BaseAlgorithm, make: Callable[[], gym.Env[Any, Any]], settings: Settings, seeds: Sequence[int], file: Path
) -> list[float]:
    """Real returns of the policy in the episodes of `seeds`, kept in `file` one by one; those that it holds stay."""
    returns: list[float] = read_json(file) if file.exists() else []
    envs = make_envs(make, settings, seed=0, envs=1)
    for number in range(len(returns), len(seeds)):
        envs.seed(seeds[number])
        model.set_random_seed(seeds[number])
        seen, state, infos = envs.reset(), None, [{}]
        begins = np.ones(1, bool)
        while "episode" not in infos[0]:
            action, state = model.predict(seen, state=state, episode_start=begins, deterministic=settings.deterministic)
            seen, _, begins, infos = envs.step(action)
        returns.append(float(infos[0]["episode"]["r"]))
        write_json(file, returns)
    envs.close()
    return returns[: len(seeds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=sorted(DREAMS))
    parser.add_argument("algo", choices=sorted({algo for _, algo in SETTINGS}))
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--frames", type=int, help="real frames of training")
    budget.add_argument("--hours", type=float, help="hours of training")
    parser.add_argument("--episodes", type=int, default=100, help="of the score")
    parser.add_argument("--every", type=float, default=3.0, help="minutes between checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    settings = SETTINGS.get((given.task, given.algo))
    if settings is None:
        parser.error(f"RL Zoo has no settings of {given.algo} for {given.task}")
    if not 0 < (given.frames or given.hours or 0) < math.inf or given.episodes < 1 or not given.every >= 0:
        parser.error("need frames or hours above 0, at least 1 episode, and minutes of at least 0")
    real = registry.find(DREAMS[given.task]).section.real.spec()

    def make() -> gym.Env[Any, Any]:
        return make_raw_env(real)

    wanted = {"task": given.task, "algo": given.algo, "frames": given.frames, "hours": given.hours, "seed": given.seed}
    check_same_run(given.out / "run.json", wanted)
    used = Budget(given.frames, given.hours)
    model = learn(make, given.algo, settings, used, given.out, seed=given.seed, every_s=60 * given.every)
    seeds = episode_seeds("evaluation", given.seed, given.episodes)
    returns = score(model, make, settings, seeds, given.out / "returns.json")
    found = wanted | {"seeds": list(seeds), "returns": returns, "curve": used.curve} | summary(returns, used)
    low, high = found["ci95"]
    print(
        f"{given.algo} on {real.id}: {found['mean']:.1f} ± {found['std']:.1f} ({low:.1f} to {high:.1f}) over "
        f"{len(returns)} episodes, {used.used_frames:,} real frames, {found['hours']:.2f} h"
    )
    if given.json:
        write_json(given.json, found)


def check_same_run(file: Path, wanted: dict[str, Any]) -> None:
    """Note what a run is, and refuse to go on with another one in its folder."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, wanted)
    elif read_json(file) != wanted:
        raise SystemExit(f"{file} holds another run: {read_json(file)}. Repeat it, or take another folder.")


def summary(returns: Sequence[float], used: Budget) -> dict[str, Any]:
    """The score by the names of `dreamenv eval --json`, and what it took."""
    return returns_summary(returns) | {"real_frames": used.used_frames, "hours": used.used_s / 3600}


if __name__ == "__main__":
    main()
