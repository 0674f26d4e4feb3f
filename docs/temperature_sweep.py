"""What temperature does to the return of the shipped agent and of random actions, in dreams.

python docs/temperature_sweep.py DreamDoom-v0 --dreams 64 --seed 0 --json temperature.json
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.files import write_json
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.world_model import WorldModel

TEMPERATURES = (0.1, 0.5, 0.75, 1.0, 1.15, 1.3, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dream", help="a registered id")
    parser.add_argument("--dreams", type=int, default=64, help="dreams at each temperature")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    given = parser.parse_args()
    rows = temperature_sweep(given.dream, given.dreams, given.seed)
    if given.json:
        write_json(given.json, rows)


def temperature_sweep(dream: str, dreams: int, seed: int) -> list[dict[str, Any]]:
    """Dreamed returns of the shipped agent and of random actions at each temperature."""
    model = WorldModel.load(dream)
    rows = []
    for temperature in TEMPERATURES:
        random = RandomAgent(model.observation_space(), model.action_space, generator=seed)
        for name, agent in (("shipped", load_agent(dream)), ("random", random)):
            found = dream_returns(model, agent, episodes=dreams, seed=seed, temperature=temperature)
            mean, error = float(found.mean()), float(found.std(ddof=1) / np.sqrt(dreams))
            rows.append(
                {"temperature": temperature, "agent": name, "mean": mean, "standard_error": error, "dreams": dreams}
            )
            print(f"temperature {temperature}: {name} {mean:.1f} ± {error:.1f}", flush=True)
    return rows


if __name__ == "__main__":
    main()
