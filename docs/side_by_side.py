"""Dreams of several models of one real environment, from the same real moment and under the same real actions.

python docs/side_by_side.py DreamCarRacing-v0 DreamCarRacing-v1 --out docs/pictures/car_v1

The agent of the first model drives. The others see the same episode, played again in their own preparation of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv.data.collect import played_again
from dreamenv.envs.loading import open_world_model
from dreamenv.figures.canvas import picture_grid, save_figures
from dreamenv.figures.model import record_episodes
from dreamenv.training.panels import open_loop, seen_latents

HORIZONS = (1, 5, 15, 30, 50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="registered ids or bundles")
    parser.add_argument("--context", type=int, help="real actions before the dreams; half of what fits by default")
    parser.add_argument("--samples", type=int, default=2, help="dreams of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("plots"))
    given = parser.parse_args()
    figure = side_by_side(given.models, given.context, given.samples, given.seed)
    for file in save_figures({"side_by_side": figure}, given.out):
        print(file)


def side_by_side(names: Sequence[str], context: int | None, samples: int, seed: int) -> Any:
    """A figure: for each model what it saw, and below it what it dreamed; a column a horizon."""
    models = {name: open_world_model(name) for name in names}
    first = models[names[0]]
    (driven,) = record_episodes(first, least=HORIZONS[-1], count=1, seed=seed, agent=names[0])
    if context is None:
        context = (driven.usable_steps - HORIZONS[-1]) // 2
    moments = [context, *(context + horizon for horizon in HORIZONS)]
    rows: list[tuple[str, Any]] = []
    for name, model in models.items():
        observations = played_again(model.real, driven).observations
        dreamed = open_loop(
            model,
            observations,
            driven.actions,
            context=context,
            horizon=HORIZONS[-1],
            noise=torch.Generator().manual_seed(seed),
            samples=samples,
        )
        noise = torch.Generator().manual_seed(seed)
        held = seen_latents(model, observations[: context + 1], driven.actions[:context], noise=noise)
        seen = model.vision.decode_uint8(held[context : context + 1]).cpu().numpy()
        rows.append((f"{name}\nreal", observations[moments]))
        for number, sample in enumerate(dreamed, start=1):
            pictures = model.vision.decode_uint8(sample[[horizon - 1 for horizon in HORIZONS]]).cpu().numpy()
            rows.append((f"{name}\ndream {number}", np.concatenate([seen, pictures])))
    return picture_grid(rows, ["start", *(f"+{horizon}" for horizon in HORIZONS)], f"{first.real.id}, real actions")


if __name__ == "__main__":
    main()
