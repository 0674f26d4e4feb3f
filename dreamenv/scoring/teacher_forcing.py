"""What M says a step ahead along real episodes, and its states at moments from which dreams may begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.memory.states import select
from dreamenv.types import Episode
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class Forced:
    """Teacher forcing over real episodes.

    Attributes:
        episodes: The episodes.
        latents: `[T+1, Z]` of each episode, on the CPU: what M holds of each observation when it has seen it.
        rewards: `[T]` float32 of each episode: predicted before the next observation was seen.
        termination_probability: `[T]` float32 of each episode.
        state: Memory state at N moments, a row a moment.
        moments: `[N, 2]` int64: episode and step of each moment, after which dreams begin.
    """

    episodes: Sequence[Episode]
    latents: list[Tensor]
    rewards: list[NDArray[np.float32]]
    termination_probability: list[NDArray[np.float32]]
    state: Any
    moments: NDArray[np.int64]


@torch.no_grad()
def force_episodes(
    model: WorldModel, episodes: Sequence[Episode], *, moments: int, horizons: Sequence[int], seed: int
) -> Forced:
    """Drive M through real episodes, all advanced together.

    Args:
        model: The world model.
        episodes: At least one.
        moments: At most so many moments of each episode are kept, evenly spread between its start margin and the last
            step from which the least of `horizons` fits.
        horizons: In rising order.
        seed: Of the noise that M draws while it observes, if it draws any.
    """
    memory, device = model.memory, model.device
    noise = torch.Generator(device).manual_seed(seed)
    # The longest first, so that those still going on are the first rows
    order = sorted(range(len(episodes)), key=lambda index: -len(episodes[index]))
    seen = [model.encode(episode.observations) for episode in episodes]
    wanted = [_moments(model, episode, moments, horizons[0]) for episode in episodes]
    state = memory.initial(torch.stack([seen[index][0] for index in order]), noise=noise)
    latents = [torch.empty(len(episode) + 1, memory.latent_size) for episode in episodes]
    rewards = [np.zeros(len(episode), np.float32) for episode in episodes]
    probabilities = [np.zeros(len(episode), np.float32) for episode in episodes]
    kept: list[Any] = []
    where: list[tuple[int, int]] = []
    for step in range(len(episodes[order[0]]) + 1):
        for index, latent in zip(order, memory.latent(state).cpu(), strict=True):
            latents[index][step] = latent
        rows = [row for row, index in enumerate(order) if step in wanted[index]]
        if rows:
            kept.append(select(state, torch.tensor(rows, device=device)))
            where += [(order[row], step) for row in rows]
        order = [index for index in order if len(episodes[index]) > step]
        if not order:
            break
        live = select(state, torch.arange(len(order), device=device))
        action = torch.from_numpy(np.stack([episodes[index].actions[step] for index in order])).to(device)
        following = torch.stack([seen[index][step + 1] for index in order])
        state, said = memory.observe(live, action, following, noise=noise)
        for index, reward, ends in zip(order, said.reward.tolist(), said.termination_probability.tolist(), strict=True):
            rewards[index][step], probabilities[index][step] = reward, ends
    joined = type(state)(*(torch.cat(parts) for parts in zip(*kept, strict=True))) if kept else None
    return Forced(episodes, latents, rewards, probabilities, joined, np.array(where, np.int64).reshape(len(where), 2))


def _moments(model: WorldModel, episode: Episode, count: int, horizon: int) -> set[int]:
    last = episode.usable_steps - horizon
    if last < 0:
        return set()
    first = min(model.real.first_moment, last)
    return set(np.linspace(first, last, min(count, last - first + 1)).astype(int).tolist())
