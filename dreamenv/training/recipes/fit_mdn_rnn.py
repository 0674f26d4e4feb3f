"""Fitting the MDN-RNN to episodes that V has encoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import step_generator
from dreamenv.training.explained import explained
from dreamenv.training.fit import FitOptions, FitResult, Losses, Scalars, check_batch_size, fit
from dreamenv.training.recipes.own_inputs import with_own_inputs
from dreamenv.training.sequences import LatentEpisodes, SequenceSampler, check_sequences

# Apart from the seeds of batches and dropout
_OWN_SEED = 2**20


def set_latent_scale(memory: MDNRNN, latents: LatentEpisodes, *, sample: bool, floor: float = 0.1) -> int:
    """Set the units in which `memory` works; returns how many latent dimensions are active.

    The scale of a dimension is its standard deviation over the data. Where V's posterior has a width, it is floored
    at `floor` times the largest: a dimension that V does not use hardly varies in its mean, and dividing by that would
    feed M amplified noise. Exact latents (the identity V's) keep their own scale, 1 where constant.
    """
    mean = latents.mean.mean(0, dtype=np.float64)
    spread = latents.mean.std(0, dtype=np.float64)
    active = int((spread > floor * spread.max()).sum())
    noise = (latents.std**2).mean(0, dtype=np.float64)
    if sample:
        spread = np.sqrt(spread**2 + noise)
    spread = np.where((noise > 0) & (spread < floor * spread.max()), floor * spread.max(), spread)
    spread = np.where(spread > 1e-6 * (1 + np.abs(mean)), spread, 1.0)
    memory.latent_mean.copy_(torch.from_numpy(mean))
    memory.latent_std.copy_(torch.from_numpy(spread))
    return active


@dataclass(frozen=True)
class FitMemoryOptions:
    """Hyperparameters of `fit_memory`.

    Attributes:
        steps: Optimiser steps.
        batch_size: Sequences a step.
        sequence_length, burn_in, latents_as: As for `SequenceSampler`.
        own_inputs: Share of the latents that are M's own draws (see `with_own_inputs`); it grows from 0 to this over
            the first half of the steps. 0 is teacher forcing.
        own_steps: Most of them in a row; each costs a pass of the network more.
        learning_rate, validate_every, patience, precision: As for `FitOptions`.
    """

    steps: int = 3000
    batch_size: int = 32
    sequence_length: int = 128
    burn_in: int = 8
    latents_as: str = "denoise"
    own_inputs: float = 0.0
    own_steps: int = 3
    learning_rate: float = 1e-3
    validate_every: int = 250
    patience: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.own_inputs <= 1 or self.own_steps < 1:
            raise ConfigurationError(
                f"need own_inputs in [0, 1] and own_steps of at least 1, got {self.own_inputs} and {self.own_steps}"
            )
        check_batch_size(self.batch_size)
        check_sequences(self.sequence_length, self.burn_in, self.latents_as)
        FitOptions.of(self)  # refuses what is out of range

    def own_share(self, step: int) -> float:
        """The share of own draws at an optimiser step."""
        return self.own_inputs * min(1.0, 2 * step / self.steps)


def fit_memory(
    memory: MDNRNN,
    cache: EpisodeCache,
    latents: LatentEpisodes,
    out_dir: str | Path,
    options: FitMemoryOptions,
    *,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int, Scalars], None] = lambda step, steps, scalars: None,
) -> FitResult:
    """Train `memory` in place by teacher forcing, or partly on its own draws; held-out episodes choose the weights.

    Writes `<out_dir>/checkpoint.safetensors` and continues from it.

    Raises:
        NonFiniteError, ConfigurationError: As `fit`; also rewards outside what the reward head can say.
    """
    device = memory.device
    memory.reward_head.check_range(float(cache.rewards.min()), float(cache.rewards.max()))
    held_out = held_out_episodes(cache)
    training, validation = (
        SequenceSampler(
            cache,
            latents,
            np.flatnonzero(chosen),
            length=options.sequence_length,
            burn_in=options.burn_in,
            latents_as=options.latents_as,
        )
        for chosen in (~held_out, held_out)
    )
    set_latent_scale(memory, latents, sample=options.latents_as != "mean")

    def losses(step: int) -> Losses:
        noise = step_generator(seed, step)
        batch = training.draw(options.batch_size, np.random.default_rng([seed, step]), noise).to(device)
        share = options.own_share(step)
        if share > 0:
            own = step_generator(seed + _OWN_SEED, step, device)
            batch = with_own_inputs(memory, batch, share=share, steps=options.own_steps, generator=own)
        return memory.loss(batch, generator=step_generator(seed, step, device))

    def validate() -> Scalars:
        return held_out_scalars(memory, validation, seed=seed)

    return fit(
        memory,
        losses,
        validate,
        FitOptions.of(options),
        checkpoint=Path(out_dir) / "checkpoint.safetensors",
        settings=(settings or {})
        | {"memory": memory.config(), "batch_size": options.batch_size, "seed": seed}
        | {"length": options.sequence_length, "burn_in": options.burn_in, "latents_as": options.latents_as}
        | {"own_inputs": options.own_inputs, "own_steps": options.own_steps if options.own_inputs else 0},
        progress=progress,
    )


def held_out_scalars(memory: MDNRNN, sampler: SequenceSampler, *, seed: int, windows: int = 192) -> Scalars:
    """Losses on windows of held-out episodes, the same windows each time, and what they would mean to a user:
    `reward_r2`, the share of the reward's variance that is predicted, and `window_return_r2`, the same for the sum of a
    window's rewards."""
    device = memory.device
    which = np.random.default_rng([seed, 2**31]).integers(len(sampler), size=windows)
    totals: Scalars = {}
    real, predicted, real_sums, predicted_sums = [], [], [], []
    for begin in range(0, windows, 64):
        part = which[begin : begin + 64]
        batch = sampler.windows(part, step_generator(seed, begin)).to(device)
        for name, value in memory.loss(batch).items():
            totals[name] = totals.get(name, 0.0) + float(value) * len(part) / windows
        heads = memory.teacher_force(batch.latents, batch.actions)
        counted = batch.mask > 0
        real.append(batch.rewards[counted])
        predicted.append(heads.reward[counted])
        real_sums.append((batch.rewards * batch.mask).sum(1))
        predicted_sums.append((heads.reward * batch.mask).sum(1))
    totals["reward_r2"] = explained(torch.cat(real), torch.cat(predicted))
    totals["window_return_r2"] = explained(torch.cat(real_sums), torch.cat(predicted_sums))
    return totals
