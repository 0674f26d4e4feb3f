"""Real episodes as V sees them, and windows of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.memory.sequences import SequenceBatch
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

    def embed(self, rows: NDArray[np.int64]) -> Tensor:
        """`[B, Z]`: the means of rows, which are what V encodes (see `make_start_states`)."""
        return torch.from_numpy(self.mean[rows])


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


def check_sequences(length: int, burn_in: int, latents_as: str) -> None:
    """Refuses windows that `SequenceSampler` cannot draw.

    Raises:
        ConfigurationError: A number out of range, or another way to give latents.
    """
    if latents_as not in LATENTS:
        raise ConfigurationError(f"latents_as={latents_as!r}; expected one of {LATENTS}")
    if length < 2 or not 0 <= burn_in < length:
        raise ConfigurationError(f"need sequence_length >= 2 and 0 <= burn_in < it; got {length}, {burn_in}")


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
        check_sequences(length, burn_in, latents_as)
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
