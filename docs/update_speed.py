"""How many updates a second Stable-Baselines3's SAC makes in PyTorch, and how many SBX's makes in JAX.

python docs/update_speed.py --json speed.json

One thread, the same networks, batches and replay; the two take turns, so that a busy machine slows both. Needs
dreamenv[sbx].
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

# JAX reads it when it is imported
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import gymnasium as gym
import torch

from dreamenv.files import write_json
from dreamenv.sb3 import algorithm

ALGORITHMS = ("sac", "sbx_sac")
_STEPS, _TURNS = 500, 4


def updates_per_second(env: str, *, updates: int, seconds: float) -> dict[str, float]:
    """Updates a second of processor time, by algorithm.

    Args:
        env: A Gymnasium id of vector observations and Box actions.
        updates: Made at once, as after a real step.
        seconds: Of processor time for each algorithm, in four turns.
    """
    agents = {name: _agent(name, env) for name in ALGORITHMS}
    for agent in agents.values():
        agent.train(gradient_steps=updates, batch_size=256)  # SBX compiles them
    spent, made = dict.fromkeys(agents, 0.0), dict.fromkeys(agents, 0)
    for turn in range(_TURNS):
        for name, agent in agents.items():
            while spent[name] < seconds * (turn + 1) / _TURNS:
                begun = time.process_time()
                agent.train(gradient_steps=updates, batch_size=256)
                spent[name] += time.process_time() - begun
                made[name] += updates
    return {name: made[name] / spent[name] for name in agents}


def _agent(name: str, env: str) -> Any:
    """An agent whose replay holds random steps, before its first update."""
    kind: Any = algorithm(name)
    agent = kind("MlpPolicy", gym.make(env), learning_starts=_STEPS, buffer_size=_STEPS, device="cpu", seed=0)
    agent.learn(_STEPS)
    return agent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--updates", type=int, default=20, help="made at once")
    parser.add_argument("--seconds", type=float, default=20.0, help="of processor time for each")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = updates_per_second(given.env, updates=given.updates, seconds=given.seconds)
    ratio = found["sbx_sac"] / found["sac"]
    print(", ".join(f"{name}: {speed:.0f} updates/s" for name, speed in found.items()) + f", {ratio:.2f} times")
    if given.json:
        write_json(given.json, {**found, "ratio": ratio})


if __name__ == "__main__":
    main()
