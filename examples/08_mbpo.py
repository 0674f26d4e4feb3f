"""Real and dreamed experience mixed, as MBPO does (Janner et al. 2019): SAC alone against SAC that also learns from
short dreams of an ensemble, which is fitted to the same real steps.

Takes: half an hour for three seeds.

python examples/08_mbpo.py [--id InvertedDoublePendulum-v5] [--seeds 0 1 2] [--out FOLDER]

One JSON file per method and seed is written, and a run that is there already is not run again. `curves.png` shows the
real return against real steps, `summary.json` at how many real steps mixing first reaches what SAC alone ends at.
With `--id LatentCarRacing-v0` branches begin in the memory states of a trained model, which stays as it is.
"""

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from dreamenv import WorldModel
from dreamenv.sb3 import BranchSchedule, MixedReplayBuffer, MixingCallback
from dreamenv.training.recipes.fit_ensemble import ensemble_world_model

METHODS = ("sac", "mixed", "sac_utd")
# Settings that only some methods depend on
MIXED_ONLY = {"real_fraction", "branches", "rollout_batch", "refit_every", "rollout_every", "retain"}
MIXED_ONLY |= {"fit_steps", "model_width"}
ALONE_ONLY, SHORT_ONLY = {"steps", "score_every"}, {"mixed_steps", "mixed_score_every"}


class Scores(BaseCallback):
    """Real return of the deterministic policy every so many real steps; nothing is learned from these episodes."""

    def __init__(self, env_id: str, *, every: int, episodes: int) -> None:
        super().__init__()
        self.env_id, self.every, self.episodes = env_id, every, episodes
        self.curve: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps and self.num_timesteps % self.every == 0:
            self.score()

    def score(self) -> None:
        if self.curve and self.curve[-1]["real_steps"] == self.num_timesteps:
            return
        envs = make_vec_env(self.env_id, n_envs=self.episodes, seed=10_000)
        found, _ = evaluate_policy(self.model, envs, self.episodes, return_episode_rewards=True)
        envs.close()
        returns = [float(value) for value in found]
        self.curve.append({"real_steps": self.num_timesteps, "mean": statistics.fmean(returns), "returns": returns})
        print(f"    {self.num_timesteps} real steps: {self.curve[-1]['mean']:.1f}", flush=True)


def _is_twin(arguments: argparse.Namespace) -> bool:
    return arguments.id.startswith("Latent")


def world_model(env: gym.Env[Any, Any], arguments: argparse.Namespace, seed: int) -> WorldModel:
    """The twin's own model where the environment is one, else an ensemble that has seen nothing yet."""
    if _is_twin(arguments):
        return env.unwrapped.world_model
    return ensemble_world_model(env, seed=seed, members=5, elites=4, hidden_size=arguments.model_width, layers=3)


def learn(method: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one agent and return its learning curve."""
    env = gym.make(arguments.id)
    mixed, alone = method == "mixed", method == "sac"
    scores = Scores(
        arguments.id,
        every=arguments.score_every if alone else arguments.mixed_score_every,
        episodes=arguments.score_episodes,
    )
    callbacks: list[BaseCallback] = [scores]
    options: dict[str, Any] = {}
    if mixed:
        options["replay_buffer_class"] = MixedReplayBuffer
        options["replay_buffer_kwargs"] = {"real_fraction": arguments.real_fraction, "retain": arguments.retain}
        callbacks.append(
            MixingCallback(
                world_model(env, arguments, seed),
                refit_every=arguments.refit_every,
                rollout_every=arguments.rollout_every,
                rollout_batch=arguments.rollout_batch,
                schedule=BranchSchedule(*arguments.branches),
                # a twin's own model stays as it is
                fit_options=None if _is_twin(arguments) else {"max_steps": arguments.fit_steps, "batch_size": 64},
                seed=seed,
            )
        )
    model = SAC(
        "MlpPolicy",
        env,
        learning_rate=arguments.learning_rate,
        learning_starts=arguments.learning_starts,
        gradient_steps=1 if alone else arguments.updates,
        policy_kwargs={"net_arch": [arguments.width] * 2},
        seed=seed,
        device="cpu",
        **options,
    )
    steps = arguments.steps if alone else arguments.mixed_steps
    begin, begin_cpu = time.perf_counter(), time.process_time()
    model.learn(steps, callback=callbacks)
    scores.score()
    env.close()
    return {
        "id": arguments.id,
        "method": method,
        "seed": seed,
        "real_steps": steps,
        "gradient_steps": model._n_updates,
        "wall_s": round(time.perf_counter() - begin, 1),
        "cpu_s": round(time.process_time() - begin_cpu, 1),
        "settings": settings_of(method, vars(arguments)),
        "curve": scores.curve,
    }


def settings_of(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a run depends on, apart from its method and seed."""
    others = {"out", "seeds", "methods"} | (SHORT_ONLY | {"updates"} if method == "sac" else ALONE_ONLY)
    others |= set() if method == "mixed" else MIXED_ONLY
    return {name: value for name, value in settings.items() if name not in others}


def final_return(run: dict[str, Any]) -> float:
    """Mean of the last three scores: a single one says little."""
    return statistics.fmean(point["mean"] for point in run["curve"][-3:])


def first_reached(run: dict[str, Any], target: float) -> int | None:
    """Real steps at the first score of at least `target`; None where there is none."""
    return next((point["real_steps"] for point in run["curve"] if point["mean"] >= target), None)


def summarise(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """For each seed: what SAC alone ends at, and when each method first gets there."""
    rows = []
    alone = {run["seed"]: run for run in runs if run["method"] == "sac"}
    for run in runs:
        reference = alone.get(run["seed"])
        if reference is None:
            continue
        target = final_return(reference)
        reached = first_reached(run, target)
        rows.append(
            {
                "method": run["method"],
                "seed": run["seed"],
                "real_steps": run["real_steps"],
                "final_return": final_return(run),
                "target": target,
                "reached_at": reached,
                "ratio": None if reached is None else reference["real_steps"] / reached,
            }
        )
    return {"id": runs[0]["id"], "rows": rows}


def plot(runs: list[dict[str, Any]], file: Path) -> None:
    """Real return against real steps: each seed thin, the mean over seeds thick."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    names = {"sac": "SAC alone", "mixed": "SAC with dreams", "sac_utd": "SAC alone, as many updates"}
    for colour, method in zip(("C0", "C1", "C2"), METHODS, strict=True):
        curves = [run["curve"] for run in runs if run["method"] == method]
        if not curves:
            continue
        for curve in curves:
            axes.plot([p["real_steps"] for p in curve], [p["mean"] for p in curve], colour, alpha=0.3, linewidth=1)
        points = min(map(len, curves))
        mean = np.mean([[p["mean"] for p in curve[:points]] for curve in curves], axis=0)
        axes.plot([p["real_steps"] for p in curves[0][:points]], mean, colour, label=f"{names[method]} ({len(curves)})")
    axes.set_xlabel("real steps")
    axes.set_ylabel("real return")
    axes.set_title(runs[0]["id"])
    axes.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="InvertedDoublePendulum-v5", help="a MuJoCo id, or the latent twin of a dream")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/mbpo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["sac", "mixed"], choices=METHODS)
    parser.add_argument("--steps", type=int, default=20_000, help="real steps of SAC alone")
    parser.add_argument("--mixed-steps", type=int, default=2000, help="real steps with mixing, and of sac_utd")
    parser.add_argument(
        "--updates", type=int, default=20, help="gradient steps a real step with mixing, and of sac_utd"
    )
    parser.add_argument("--real-fraction", type=float, default=0.1)
    parser.add_argument("--branches", type=int, nargs=4, default=[1, 1, 0, 0], metavar=("X", "Y", "A", "B"))
    parser.add_argument("--rollout-batch", type=int, default=5000, help="branches a refill")
    parser.add_argument("--refit-every", type=int, default=125)
    parser.add_argument("--rollout-every", type=int, default=25, help="real steps between refills of branches")
    parser.add_argument("--retain", type=int, default=8, help="refills of branches that are held")
    parser.add_argument("--fit-steps", type=int, default=1000, help="optimiser steps of one fit at most")
    parser.add_argument("--model-width", type=int, default=128, help="of the ensemble's hidden layers")
    parser.add_argument("--width", type=int, default=128, help="of the agent's hidden layers")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--learning-starts", type=int, default=250)
    parser.add_argument("--score-every", type=int, default=250)
    parser.add_argument("--mixed-score-every", type=int, default=125)
    parser.add_argument("--score-episodes", type=int, default=10)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    folder = arguments.out / arguments.id
    folder.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for method in arguments.methods:
            file = folder / f"{method}_{seed}.json"
            if file.exists():
                settings = json.loads(file.read_text(encoding="utf-8"))["settings"]
                if settings_of(method, settings) != settings_of(method, vars(arguments)):
                    parser.error(f"{file} is of a run with other settings; take another --out")
                continue
            print(f"{method}, seed {seed}", flush=True)
            part = file.with_suffix(".part")
            part.write_text(json.dumps(learn(method, seed, arguments), indent=1), encoding="utf-8")
            os.replace(part, file)
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*_[0-9]*.json"))]
    summary = summarise(runs)
    (folder / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
    plot(runs, folder / "curves.png")
    for row in summary["rows"]:
        reached = (
            "not reached" if row["ratio"] is None else f"at {row['reached_at']} real steps, ratio {row['ratio']:.1f}"
        )
        print(
            f"{row['method']:8} seed {row['seed']}: {row['final_return']:.1f} after {row['real_steps']} real steps; "
            f"{row['target']:.1f} (SAC alone) {reached}"
        )


if __name__ == "__main__":
    main()
