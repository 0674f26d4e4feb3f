"""Planners compared with random actions: real return, and milliseconds per decision. No agent is trained.

Takes: half an hour per planner on CarRacing.

python examples/11_compare_planners.py --id DreamCarRacing-v0
python examples/11_compare_planners.py --id DreamDoom-v0 --planners planner:mcts planner:shooting
python examples/11_compare_planners.py --id Pendulum-v1 [--steps 4000]

A dream's id plans in the shipped model. For any other id of Gymnasium with vector observations an ensemble is fitted to
`--steps` real steps of random actions first. Rows are written to OUT/ID.json as they come, and are not measured again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from dreamenv import WorldModel, evaluate, load_agent, registry
from dreamenv.training.recipes.fit_ensemble import ensemble_world_model, fit_ensemble
from dreamenv.training.transitions import Transitions

PLANNERS = ["random", "planner:shooting", "planner:cem", "planner:mppi"]


def random_transitions(env: gym.Env[Any, Any], steps: int, seed: int) -> Transitions:
    """Real steps of uniform actions."""
    rows: list[tuple[Any, ...]] = []
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    while len(rows) < steps:
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, following, reward, terminated))
        observation = env.reset()[0] if terminated or truncated else following
    kinds = (np.float32, env.action_space.dtype, np.float32, np.float32, np.bool_)
    return Transitions(*(np.array(part, kind) for part, kind in zip(zip(*rows, strict=True), kinds, strict=True)))


def fitted_model(name: str, steps: int, seed: int) -> WorldModel:
    """An ensemble that has seen `steps` random steps."""
    env = gym.make(name)
    model = ensemble_world_model(env, seed=seed)
    fit = fit_ensemble(model.memory, random_transitions(env, steps, seed), seed=seed)
    env.close()
    model.provenance["real_frames"] = steps
    print(f"{name}: ensemble fitted to {steps:,} random steps, {fit.steps:,} optimiser steps")
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", default="Pendulum-v1")
    parser.add_argument("--planners", nargs="+", default=PLANNERS, help="with their settings; random is a baseline")
    parser.add_argument("--steps", type=int, default=4000, help="random real steps that an ensemble is fitted to")
    parser.add_argument("--episodes", type=int, default=100, help="of each score")
    parser.add_argument("--workers", type=int, default=2, help="processes that play the real episodes; 0: this one")
    parser.add_argument("--seed", type=int, default=0, help="of the random steps and the fit")
    parser.add_argument("--out", type=Path, default=Path("runs/examples/planners"))
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    shipped = arguments.id in registry.entries()
    model = WorldModel.load(arguments.id) if shipped else fitted_model(arguments.id, arguments.steps, arguments.seed)
    file = arguments.out / f"{arguments.id}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name in arguments.planners:
        key = f"{name} ({arguments.episodes} episodes)"
        if key not in rows:
            agent = name if name == "random" else load_agent(name, world_model=model)
            score = evaluate(model, agent, episodes=arguments.episodes, workers=arguments.workers)
            rows[key] = score.to_json()
            file.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        row = rows[key]
        low, high = row["ci95"]
        print(f"{name}: {row['mean']:.1f} ± {row['std']:.1f} [{low:.1f}, {high:.1f}], {row['ms_per_decision']:.1f} ms")


if __name__ == "__main__":  # the workers that play import this file
    main()
