"""Fitting the VAE to the frames of real episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import SpaceMismatchError
from dreamenv.noise.base import step_generator
from dreamenv.training.fit import FitOptions, FitResult, Scalars, check_batch_size, fit
from dreamenv.vision.small_things import SmallThings
from dreamenv.vision.vae import ConvVAE

# Held-out frames in which small things are looked for
_PICTURES = 512


@dataclass(frozen=True)
class FitVisionOptions:
    """Hyperparameters of `fit_vision`.

    Attributes:
        steps: Optimiser steps.
        batch_size: Frames a step.
        learning_rate, validate_every, patience, precision: As for `FitOptions`.
    """

    steps: int = 5000
    batch_size: int = 128
    learning_rate: float = 1e-3
    validate_every: int = 500
    patience: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        if self.steps:  # none keep a V as it is
            FitOptions.of(self)  # refuses what is out of range


def fit_vision(
    vision: ConvVAE,
    cache: EpisodeCache,
    out_dir: str | Path,
    options: FitVisionOptions,
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int, Scalars], None] = lambda step, steps, scalars: None,
) -> FitResult:
    """Train `vision` in place on the frames of `cache`; held-out episodes choose the weights.

    Writes `<out_dir>/checkpoint.safetensors` and continues from it. Frames are drawn uniformly with replacement. Among
    the held-out scalars is `small_drawn`, the share of small things of rare colours that V draws (`SmallThings`), where
    the frames have such.

    Raises:
        NonFiniteError, ConfigurationError: As `fit`.
        SpaceMismatchError: The frames are not of the shape that `vision` takes.
    """
    if cache.observations.shape[1:] != vision.observation_shape:
        raise SpaceMismatchError(
            f"the episodes hold observations of shape {cache.observations.shape[1:]}, {type(vision).__name__} takes "
            f"{vision.observation_shape}. The real environment's image_size is the side of its pictures."
        )
    device = next(vision.parameters()).device
    rows = _rows(cache, ~held_out_episodes(cache))
    held_out = _rows(cache, held_out_episodes(cache))
    held_out = held_out[:: max(1, len(held_out) // 2048)]

    spread = rows[np.random.default_rng([seed, 2**31]).integers(len(rows), size=4096)]
    vision.set_colour_weights(torch.from_numpy(cache.observations[spread]).to(device))

    def frames(index: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(cache.observations[index]).to(device, non_blocking=True)

    def losses(step: int) -> dict[str, Tensor]:
        index = rows[np.random.default_rng([seed, step]).integers(len(rows), size=options.batch_size)]
        return vision.loss(frames(index), generator=step_generator(seed, step, device))

    def validate() -> Scalars:
        totals: Scalars = {}
        for begin in range(0, len(held_out), 256):
            index = held_out[begin : begin + 256]
            found = vision.loss(frames(index), generator=step_generator(seed, begin, device))
            for name, value in found.items():
                totals[name] = totals.get(name, 0.0) + float(value) * len(index) / len(held_out)
        return totals | small_drawn()

    few = cache.observations[held_out[:: max(1, len(held_out) // _PICTURES)]]
    things = SmallThings(few)

    def small_drawn() -> Scalars:
        with torch.no_grad():
            decoded = torch.cat(
                [vision.decode(vision.encode(part.to(device))).cpu() for part in torch.from_numpy(few).split(256)]
            )
        drawn, found = things.count(few, decoded.numpy())
        return {"small_drawn": drawn / found} if found else {}

    return fit(
        vision,
        losses,
        validate,
        FitOptions.of(options),
        checkpoint=Path(out_dir) / "checkpoint.safetensors",
        settings=(settings or {}) | {"vision": vision.config(), "batch_size": options.batch_size, "seed": seed},
        progress=progress,
    )


def _rows(cache: EpisodeCache, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows of `cache.observations` of the chosen episodes, without terminal frames that were only repeated."""
    counts = cache.lengths + cache.final_valid
    return np.concatenate([np.arange(cache.first[e], cache.first[e] + counts[e]) for e in np.flatnonzero(chosen)])
