"""How far several models of one real environment dream true: errors of their dreams on the same held-out episodes.

python docs/open_loop.py DreamDoom-v0 DreamDoom-v1 --episodes 10 --json open_loop.json

The agents of all models drive, `--episodes` evaluation episodes each; every model is shown all of them, played again in
its own preparation of the real environment. Pictures are compared in [0, 1] with the real frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dreamenv.data.collect import played_again
from dreamenv.envs.loading import open_world_model
from dreamenv.files import write_json
from dreamenv.scoring.gap import record_agent
from dreamenv.scoring.open_loop import OpenLoopRow, open_loop_errors
from dreamenv.scoring.teacher_forcing import force_episodes

HORIZONS = (1, 5, 15, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="registered ids or bundles, each with its agent")
    parser.add_argument("--episodes", type=int, default=10, help="of each model's agent")
    parser.add_argument("--moments", type=int, default=16, help="of an episode, at which dreams begin")
    parser.add_argument("--samples", type=int, default=16, help="dreams of a moment")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0], help="of the dreams, one after another")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    given = parser.parse_args()
    found = compared(
        given.models, given.episodes, given.moments, given.samples, given.seed, temperatures=given.temperatures
    )
    for name, rows in found.items():
        for row in rows:
            print(
                f"{name} +{row.horizon}: mean of the dreams {row.pixel_mse:.5f}, one dream {row.pixel_mse_sample:.5f}, "
                f"no change {row.pixel_mse_frame_no_change:.5f}, V itself {row.pixel_mse_reconstruction:.5f}"
            )
    if given.json:
        write_json(given.json, {name: {f"{row.horizon}": asdict(row) for row in rows} for name, rows in found.items()})


def compared(
    names: Sequence[str],
    episodes: int,
    moments: int,
    samples: int,
    seed: int,
    *,
    temperatures: Sequence[float] = (1.0,),
) -> dict[str, tuple[OpenLoopRow, ...]]:
    """The rows of each model by its name, and by name and temperature where that is not 1."""
    models: dict[str, Any] = {name: open_world_model(name) for name in names}
    driven = [
        (models[name].real, episode)
        for name in names
        for episode in record_agent(name, episodes=episodes, seed=seed, workers=0)
        if len(episode) > HORIZONS[-1]
    ]
    found = {}
    for name, model in models.items():
        shown = [episode if real == model.real else played_again(model.real, episode) for real, episode in driven]
        forced = force_episodes(model, shown, moments=moments, horizons=HORIZONS, seed=seed)
        for temperature in temperatures:
            told = name if temperature == 1 else f"{name} at {temperature:g}"
            found[told] = open_loop_errors(
                model, forced, horizons=HORIZONS, samples=samples, seed=seed, temperature=temperature
            )
    return found


if __name__ == "__main__":
    main()
