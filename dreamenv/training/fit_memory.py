"""Encoding real episodes with V and fitting M to the latents."""

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
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import SequenceBatch
from dreamenv.memory.mdn_rnn import MDNRNN
from dreamenv.training.fit_vision import held_out_episodes
from dreamenv.training.optimise import Fitted, Losses, Scalars, fit, step_generator
from dreamenv.vision.base import Vision

LATENTS = ("denoise", "sample", "mean")
# Share of the posterior's noise left in the targets of "denoise". Without any, latents that V does not use would be
# targets of hardly any variance, and M would spend itself on their last digits.
_TARGET_NOISE = 0.25


@dataclass(frozen=True)
class LatentEpisodes:
    """The episodes of a cache as V sees them; rows as in `EpisodeCache.observations`.

    Attributes:
        mean: `[N + E, Z]` float32.
        std: `[N + E, Z]` float32, the posterior's standard deviation.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]


def encode_episodes(
    vision: Vision,
    cache: EpisodeCache,
    *,
    batch_size: int = 512,
    progress: Callable[[int, int], None] = lambda row, rows: None,
) -> LatentEpisodes:
    """Posterior of every observation of `cache` under `vision`."""
    rows = len(cache.observations)
    device = next((p.device for p in vision.parameters()), torch.device("cpu"))
    mean = np.empty((rows, vision.latent_size), np.float32)
    std = np.empty((rows, vision.latent_size), np.float32)
    with torch.inference_mode():
        for begin in range(0, rows, batch_size):
            # a copy: the cache is read-only, which torch warns of
            frames = torch.from_numpy(np.array(cache.observations[begin : begin + batch_size])).to(device)
            found = vision.posterior(frames)
            mean[begin : begin + batch_size] = found[0].cpu().numpy()
            std[begin : begin + batch_size] = found[1].cpu().numpy()
            progress(min(begin + batch_size, rows), rows)
    return LatentEpisodes(mean, std)


class SequenceSampler:
    """Windows of real episodes as `SequenceBatch`es.

    A window begins at a step drawn uniformly over all steps of the chosen episodes, moved back so that it lies within
    the episode; shorter episodes are padded. The hidden state is zero at its beginning: where that is not the episode's
    beginning, the first `burn_in` steps do not count.

    Args:
        cache: Actions, rewards and ends.
        latents: The encoded observations.
        episodes: Numbers of the episodes to draw from.
        length: T.
        burn_in: Steps left out of the loss after a cut.
        latents_as: "sample" draws z from (mean, std) anew for every batch, as the paper does; "mean" takes the mean;
            "denoise" gives M samples and asks for what is next with a quarter of their noise, so that it learns to
            draw back to what V can see and yet predicts sharply.
    """

    def __init__(
        self,
        cache: EpisodeCache,
        latents: LatentEpisodes,
        episodes: NDArray[np.int64],
        *,
        length: int,
        burn_in: int,
        latents_as: str,
    ) -> None:
        if latents_as not in LATENTS:
            raise ConfigurationError(f"latents={latents_as!r}; expected one of {LATENTS}")
        if length < 2 or not 0 <= burn_in < length:
            raise ConfigurationError(f"need sequence_length >= 2 and 0 <= burn_in < it; got {length}, {burn_in}")
        self._cache, self._latents = cache, latents
        self._length, self._burn_in, self._latents_as = length, burn_in, latents_as
        lengths = cache.lengths[episodes]
        self._episode = np.repeat(episodes, lengths)
        self._offset = np.concatenate([np.arange(n) for n in lengths]) if len(lengths) else np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._episode)

    def draw(self, size: int, generator: np.random.Generator, noise: torch.Generator) -> SequenceBatch:
        """`size` random windows."""
        return self.windows(generator.integers(len(self), size=size), noise)

    def windows(self, which: NDArray[np.int64], noise: torch.Generator) -> SequenceBatch:
        """The windows of steps `which`."""
        cache, length = self._cache, self._length
        episode = self._episode[which]
        begin = np.minimum(self._offset[which], np.maximum(cache.lengths[episode] - length, 0))
        step = begin[:, None] + np.arange(length)
        last = cache.lengths[episode][:, None] - 1
        inside = step <= last
        rows = cache.first_step[episode][:, None] + np.minimum(step, last)
        counts = inside & ((np.arange(length) >= self._burn_in) | (begin == 0)[:, None])
        ends = inside & (step == last)
        frame = cache.first[episode][:, None] + np.minimum(begin[:, None] + np.arange(length + 1), last + 1)
        mean = latents = targets = torch.from_numpy(self._latents.mean[frame])
        if self._latents_as != "mean":
            std = torch.from_numpy(self._latents.std[frame])
            latents = mean + std * torch.randn(mean.shape, generator=noise)
            targets = latents
        if self._latents_as == "denoise":
            targets = mean + _TARGET_NOISE * std * torch.randn(mean.shape, generator=noise)
        seen = counts & ~(ends & ~cache.final_valid[episode][:, None])
        return SequenceBatch(
            latents=latents,
            targets=targets[:, 1:],
            actions=torch.from_numpy(cache.actions[rows]),
            rewards=torch.from_numpy(cache.rewards[rows]),
            terminated=torch.from_numpy((ends & cache.terminated[episode][:, None]).astype(np.float32)),
            mask=torch.from_numpy(counts.astype(np.float32)),
            latent_mask=torch.from_numpy(seen.astype(np.float32)),
        )


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


def fit_memory(
    memory: MDNRNN,
    cache: EpisodeCache,
    latents: LatentEpisodes,
    out_dir: str | Path,
    *,
    steps: int,
    batch_size: int = 32,
    sequence_length: int = 128,
    burn_in: int = 8,
    latents_as: str = "denoise",
    learning_rate: float = 1e-3,
    validate_every: int = 250,
    patience: int | None = None,
    precision: str = "auto",
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int, Scalars], None] = lambda step, steps, scalars: None,
) -> Fitted:
    """Train `memory` in place by teacher forcing; held-out episodes choose the weights.

    Writes `<out_dir>/checkpoint.safetensors` and continues from it.

    Raises:
        NonFiniteError, ConfigurationError: As `fit`; also rewards outside what the reward head can say.
    """
    device = next(memory.parameters()).device
    memory.reward_head.check_range(float(cache.rewards.min()), float(cache.rewards.max()))
    held_out = held_out_episodes(cache)
    options = {"length": sequence_length, "burn_in": burn_in, "latents_as": latents_as}
    training = SequenceSampler(cache, latents, np.flatnonzero(~held_out), **options)  # type: ignore[arg-type]
    validation = SequenceSampler(cache, latents, np.flatnonzero(held_out), **options)  # type: ignore[arg-type]
    set_latent_scale(memory, latents, sample=latents_as != "mean")

    def losses(step: int) -> Losses:
        noise = step_generator(seed, step)
        batch = training.draw(batch_size, np.random.default_rng([seed, step]), noise)
        return memory.loss(batch.to(device), generator=step_generator(seed, step, device))

    def validate() -> Scalars:
        return held_out_scalars(memory, validation, seed=seed)

    return fit(
        memory,
        losses,
        validate,
        checkpoint=Path(out_dir) / "checkpoint.safetensors",
        steps=steps,
        learning_rate=learning_rate,
        validate_every=validate_every,
        patience=patience,
        precision=precision,
        settings=(settings or {}) | {"memory": memory.config(), "batch_size": batch_size, "seed": seed} | options,
        progress=progress,
    )


def held_out_scalars(memory: MDNRNN, sampler: SequenceSampler, *, seed: int, windows: int = 192) -> Scalars:
    """Losses on windows of held-out episodes, the same windows each time, and what they would mean to a user:
    `reward_r2`, the share of the reward's variance that is predicted, and `window_return_r2`, the same for the sum of a
    window's rewards."""
    device = next(memory.parameters()).device
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


def explained(real: Tensor, predicted: Tensor) -> float:
    """R²: 1 minus the squared error over the variance; 1 is perfect, 0 no better than the mean.

    0 where `real` is constant: there is nothing to explain.
    """
    variance = float((real - real.mean()).square().mean())
    return 1 - float((real - predicted).square().mean()) / variance if variance > 1e-12 else 0.0
