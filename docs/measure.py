"""The measurements that the pages draw: `python docs/measure.py gap ID` and `python docs/measure.py temperature ID`.

Each writes docs/measurements/WHAT_ID.json, with the sha256 of the model and the agent it was taken on, so that the
pages can say when the shipped bundle is another one by now.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.resolve import AGENT_FILE, load_agent
from dreamenv.bundle import resolve_bundle
from dreamenv.files import sha256_of
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.scoring.gap import dream_gap
from dreamenv.world_model import WorldModel

FOLDER = Path(__file__).resolve().parent / "measurements"
TEMPERATURES = (0.1, 0.5, 0.75, 1.0, 1.15, 1.3, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("gap", "temperature"))
    parser.add_argument("dream", help="a registered id")
    parser.add_argument("--episodes", type=int, default=20, help="real episodes of the gap")
    parser.add_argument("--dreams", type=int, default=64, help="dreams at each temperature")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.what == "gap":
        gap = dream_gap(given.dream, episodes=given.episodes, seed=given.seed, workers=0, progress=_count)
        size, found = f"--episodes {given.episodes}", gap.to_json()
    else:
        size, found = f"--dreams {given.dreams}", temperature_sweep(given.dream, given.dreams, given.seed)
    command = f"python docs/measure.py {given.what} {given.dream} {size} --seed {given.seed}"
    file = FOLDER / f"{given.what}_{given.dream}.json"
    content = {"command": command, "dream": given.dream, "sha256": bundle_hashes(given.dream), given.what: found}
    FOLDER.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(file.relative_to(FOLDER.parent.parent))


def bundle_hashes(dream: str) -> dict[str, str]:
    """sha256 of the model and of the agent that lie in a dream's bundle."""
    folder, _ = resolve_bundle(dream)
    return {name: sha256_of(folder / name) for name in ("model.safetensors", AGENT_FILE)}


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


def _count(episode: int) -> None:
    print(f"real episode {episode}", flush=True)


if __name__ == "__main__":
    main()
