"""Real transitions, for memories that are fitted to single steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.training.sequences import LatentEpisodes

# Held-out transitions at most, as in the code of Janner et al.
_LARGEST_HELD_OUT = 5000


@dataclass(frozen=True)
class Transitions:
    """N real transitions, in the order in which they came.

    Attributes:
        latents: `[N, Z]` float32.
        actions: `[N, A]` float32 (Box) or `[N]` int64 (Discrete), as the environment takes them.
        next_latents: `[N, Z]` float32.
        rewards: `[N]` float32, in units of the real environment.
        terminated: `[N]` bool; a time limit is no termination.
    """

    latents: NDArray[np.float32]
    actions: NDArray[Any]
    next_latents: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise ConfigurationError(f"transitions need as many rows of each part, got {lengths}")

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def of_episodes(
        cls, cache: EpisodeCache, latents: LatentEpisodes, chosen: NDArray[np.bool_] | None = None
    ) -> Transitions:
        """The steps of encoded episodes, except those whose last observation is a repeat of the one before.

        Args:
            cache: The episodes.
            latents: What V sees in them.
            chosen: `[E]`, the episodes to take; None takes all.
        """
        episode = np.repeat(np.arange(cache.episodes), cache.lengths)
        step = np.arange(len(episode)) - cache.first_step[episode]
        last = step == cache.lengths[episode] - 1
        seen = ~(last & ~cache.final_valid[episode])
        if chosen is not None:
            seen &= chosen[episode]
        row = cache.first[episode] + step
        return cls(
            latents.mean[row[seen]],
            cache.actions[seen],
            latents.mean[row[seen] + 1],
            cache.rewards[seen],
            (last & cache.terminated[episode])[seen],
        )


def held_out_rows(count: int, share: float, seed: int) -> NDArray[np.bool_]:
    """`[count]` bool: which of so many transitions are held out, one drawn from every `round(1 / share)` in a row.

    A row is so whatever `count` is, up to the largest number of held-out rows.
    """
    every = max(round(1 / share), 2)
    blocks = -(-count // every)
    picked = np.arange(blocks) * every + (np.random.default_rng([seed, 2**31]).random(blocks) * every).astype(np.int64)
    aside = np.zeros(count, np.bool_)
    aside[picked[picked < count][:_LARGEST_HELD_OUT]] = True
    return aside
