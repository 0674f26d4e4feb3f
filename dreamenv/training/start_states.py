"""Start states of dreams, taken from real episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.bundle import StartStates
from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.states import select
from dreamenv.vision.base import Vision
from dreamenv.vision.batches import encode_rows

# Rows of `EpisodeCache.observations` to embeddings `[B, E]` float32.
Embed = Callable[[NDArray[np.int64]], Tensor]


def embed_by(vision: Vision, cache: EpisodeCache, *, device: torch.device | str, batch_size: int = 512) -> Embed:
    """Embeddings that `vision`, which is on `device`, computes when they are asked for."""

    def embed(rows: NDArray[np.int64]) -> Tensor:
        parts = []
        with torch.no_grad():
            for begin in range(0, len(rows), batch_size):
                seen = np.array(cache.observations[rows[begin : begin + batch_size]])
                parts.append(encode_rows(vision, torch.from_numpy(seen).to(device)).cpu())
        return torch.cat(parts)

    return embed


def make_start_states(
    memory: MemoryModel[Any],
    cache: EpisodeCache,
    embed: Embed,
    *,
    episodes: NDArray[np.int64] | None = None,
    initial: int = 1024,
    replay: int = 1024,
    margin: int = 0,
    seed: int = 0,
) -> StartStates:
    """Start states from the episodes that M was trained on.

    Args:
        memory: M, fitted.
        cache: The real episodes.
        embed: What V encodes of their observations.
        episodes: Numbers of those to take; None takes those that are not held out.
        initial: At most so many first observations, and with a margin as many moments at which it is over.
        replay: At most so many moments within episodes; their memory states are burned in by `observe` from the
            episode's beginning.
        margin: Actions at the beginning of each episode that give no replay start.
        seed: Chooses episodes and moments.
    """
    rng = np.random.default_rng(seed)
    if episodes is None:
        episodes = np.flatnonzero(~held_out_episodes(cache))
    chosen = rng.permutation(episodes)[:initial]
    first = embed(cache.first[chosen])
    long_enough = episodes[cache.lengths[episodes] > margin + 1]
    moments_per_episode = np.maximum(cache.lengths[long_enough] - margin - 1, 0).astype(np.float64)
    settled = {}
    if margin > 0 and len(long_enough):
        begun = rng.permutation(long_enough)[:initial]
        settled = _burned_in(memory, cache, embed, begun, np.full(len(begun), margin))
    if len(long_enough) == 0 or replay == 0:
        return StartStates(first, settled=settled)
    picked = rng.choice(long_enough, size=replay, p=moments_per_episode / moments_per_episode.sum())
    moments = margin + 1 + (rng.random(replay) * (cache.lengths[picked] - margin - 1)).astype(np.int64)
    return StartStates(first, _burned_in(memory, cache, embed, picked, moments), settled)


def _burned_in(
    memory: MemoryModel[Any], cache: EpisodeCache, embed: Embed, episodes: np.ndarray, moments: np.ndarray
) -> dict[str, Tensor]:
    """Memory states at step `moments[i]` of episode `episodes[i]`, all rows advanced together."""
    device = memory.device
    generator = torch.Generator(device).manual_seed(0)  # drawn from only where the model has dropout in the dream
    order = np.argsort(-moments)
    episodes, moments = episodes[order], moments[order]
    with torch.no_grad():
        state = memory.initial(embed(cache.first[episodes]).to(device), noise=generator)
        kept = [part.clone() for part in state]
        alive = len(episodes)
        for step in range(int(moments.max())):
            alive = int((moments > step).sum())
            rows = torch.arange(alive, device=device)
            live = select(state, rows)
            action = torch.from_numpy(cache.actions[cache.first_step[episodes[:alive]] + step]).to(device)
            seen = embed(cache.first[episodes[:alive]] + step + 1).to(device)
            state, _ = memory.observe(live, action, seen, noise=generator)
            for part, new in zip(kept, state, strict=True):
                part[:alive] = new
    return {name: part.cpu() for name, part in zip(memory.state_type._fields, kept, strict=True)}
