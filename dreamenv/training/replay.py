"""Windows of real experience laid end to end: episodes may begin and end anywhere within one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.training.mirror import Mirror

# exp() of more overflows soon, and even this draws from a seven-hundredth of the experience
_MOST_RECENCY = 700


@dataclass(frozen=True)
class ReplayBatch:
    """B windows of T moments. A moment is an observation, and the action, reward and end that came with it.

    Attributes:
        observations: `[B, T, ...]`, as in the cache.
        actions: `[B, T, A]` float32 or `[B, T]` int64, the one that led to the moment; any where `first` is true.
        first: `[B, T]` bool, whether an episode begins at the moment.
        rewards: `[B, T]` float32 of that action.
        terminated: `[B, T]` float32, 1 where the task ended with it.
        seen: `[B, T]` float32, 0 where the observation is a mere repeat of the one before.
    """

    observations: Tensor
    actions: Tensor
    first: Tensor
    rewards: Tensor
    terminated: Tensor
    seen: Tensor

    def to(self, device: torch.device | str) -> ReplayBatch:
        """The same batch on `device`."""
        return ReplayBatch(*(part.to(device) for part in vars(self).values()))


class Windows(NamedTuple):
    """B replayed windows of T moments as M has seen them, without gradients; see `ReplayBatch` for what a moment is.

    Attributes:
        features: `[B, T, F]`, what agents are given.
        rewards: `[B, T]` float32 of the actions that led to the moments.
        first: `[B, T]` bool, whether an episode begins at the moment.
        terminated: `[B, T]` float32, 1 where the task ended with it.
    """

    features: Tensor
    rewards: Tensor
    first: Tensor
    terminated: Tensor


class Replayed(NamedTuple):
    """What an update has replayed.

    Attributes:
        states: M's `[N]` at the moments from which a dream may begin, without gradients.
        windows: The moments in their order; None where they have none.
    """

    states: Any
    windows: Windows | None = None


def check_windows(length: int, recency: float) -> None:
    """Refuses windows that `Replay` cannot draw.

    Raises:
        ConfigurationError: A number out of range.
    """
    if length < 2 or not 0 <= recency <= _MOST_RECENCY:
        raise ConfigurationError(
            f"need sequence_length >= 2 and recency in [0, {_MOST_RECENCY}], got {length} and {recency}"
        )


class Replay:
    """Draws windows from some episodes of a cache.

    Args:
        cache: The real episodes.
        episodes: Numbers of those to draw from, in the order in which they came.
        length: T.
        recency: How strongly late experience is preferred: a window is drawn with a weight of exp(recency · share of
            the experience that lies before it); 0 draws uniformly.
        mirror: Shows every second window in a mirror, at random.
        mirrored: Observations of the cache's rows as they are seen in the mirror; None turns the pictures round.

    Raises:
        ConfigurationError: Less experience than one window, or a number out of range.
    """

    def __init__(
        self,
        cache: EpisodeCache,
        episodes: NDArray[np.int64],
        *,
        length: int,
        recency: float = 0.0,
        mirror: Mirror | None = None,
        mirrored: NDArray[Any] | None = None,
    ) -> None:
        check_windows(length, recency)
        self._cache, self._length, self._recency = cache, length, recency
        self._mirror, self._mirrored = mirror, mirrored
        counts = cache.lengths[episodes] + 1
        self._episode = np.repeat(episodes, counts)
        self._step = np.concatenate([np.arange(n) for n in counts]) if len(counts) else np.zeros(0, np.int64)
        if len(self) < 1:
            raise ConfigurationError(
                f"{len(episodes)} episodes hold {len(self._step)} moments, less than a window of {length}. "
                "Collect more, or take a smaller sequence_length."
            )

    def __len__(self) -> int:
        """How many windows there are."""
        return max(len(self._step) - self._length + 1, 0)

    def draw(self, size: int, generator: np.random.Generator) -> ReplayBatch:
        """`size` windows at random."""
        share = generator.random(size)
        if self._recency > 0:
            # The inverse of the cumulative weights
            share = np.log1p(share * np.expm1(self._recency)) / self._recency
        turned = generator.random(size) < 0.5 if self._mirror is not None else None
        return self.windows((share * len(self)).astype(np.int64), turned)

    def windows(self, begin: NDArray[np.int64], turned: NDArray[np.bool_] | None = None) -> ReplayBatch:
        """The windows that begin at moments `begin` `[B]`; those that `turned` `[B]` marks are seen in the mirror."""
        cache = self._cache
        at = begin[:, None] + np.arange(self._length)
        episode, step = self._episode[at], self._step[at]
        first, last = step == 0, step == cache.lengths[episode]
        before = cache.first_step[episode] + np.maximum(step - 1, 0)
        rows = cache.first[episode] + step
        observations, actions = cache.observations[rows], cache.actions[before]
        if turned is not None and self._mirror is not None:
            seen, given = observations[turned], self._mirrored
            shown = self._mirror.pictures(seen) if given is None else given[rows[turned]]
            observations[turned] = shown
            actions[turned] = self._mirror.actions(actions[turned])
        return ReplayBatch(
            torch.from_numpy(observations),
            torch.from_numpy(actions),
            torch.from_numpy(first),
            torch.from_numpy(np.where(first, 0, cache.rewards[before]).astype(np.float32)),
            torch.from_numpy((last & cache.terminated[episode]).astype(np.float32)),
            torch.from_numpy((~(last & ~cache.final_valid[episode])).astype(np.float32)),
        )
