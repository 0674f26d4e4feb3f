"""Moments of real episodes with what followed them: actions, rewards, ends, and n-step returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError


def check_oldest_returns(oldest: int | None, returns: int) -> None:
    """Refuses returns that would be longer where the experience is older.

    Raises:
        ConfigurationError: `oldest` is below 1 or above `returns`.
    """
    if oldest is not None and not 1 <= oldest <= returns:
        raise ConfigurationError(f"oldest_returns must be in [1, returns={returns}], got {oldest}")


@dataclass(frozen=True)
class UnrollBatch:
    """B moments and the K steps behind each; step k leads from moment k to moment k + 1.

    Attributes:
        observations: `[B, K + 1, ...]`, of each moment; behind an episode's end its last one.
        acts: `[B, K + 1]` bool, moments at which an action was taken: those before the end.
        actions: `[B, K]` int64; any behind the end.
        played: `[B, K]` bool, steps that were played.
        seen: `[B, K]` bool, those of them behind which a real observation is: not an end's that repeats the one before.
        rewards: `[B, K]` float32.
        terminated: `[B, K]` float32, 1 where the task ended with the step.
        returns: `[B, K + 1]` float32, discounted rewards of the n steps from each moment on, or up to the end.
        ahead: `[B, K + 1, ...]`, the observation behind those steps.
        weight: `[B, K + 1]` float32, what a value of it counts for: γ to the steps' number, 0 where the task had ended.
    """

    observations: Tensor
    acts: Tensor
    actions: Tensor
    played: Tensor
    seen: Tensor
    rewards: Tensor
    terminated: Tensor
    returns: Tensor
    ahead: Tensor
    weight: Tensor

    def to(self, device: torch.device | str) -> UnrollBatch:
        """The same batch on `device`."""
        return UnrollBatch(*(part.to(device) for part in vars(self).values()))


class Unrolls:
    """Draws moments from some episodes of a cache.

    Args:
        cache: The real episodes.
        episodes: Numbers of those to draw from.
        steps: K.
        returns: n, real rewards of a return.
        discount: γ.
        oldest_returns: n at the oldest moment; with a moment's place in the order of experience it rises to `returns`,
            since what followed an old moment was chosen by a worse policy (Ye et al. 2021, "Mastering Atari games with
            limited data", appendix A.1). None: `returns` at all.

    Raises:
        ConfigurationError: There are no moments, or a number is out of range.
    """

    def __init__(
        self,
        cache: EpisodeCache,
        episodes: NDArray[np.int64],
        *,
        steps: int,
        returns: int,
        discount: float,
        oldest_returns: int | None = None,
    ) -> None:
        if min(steps, returns) < 1 or not 0 < discount <= 1:
            raise ConfigurationError(
                f"need unroll and returns of at least 1 and discount in (0, 1], got {steps}, {returns}, {discount}"
            )
        check_oldest_returns(oldest_returns, returns)
        lengths = cache.lengths[episodes]
        self._cache, self._steps, self._returns, self._discount = cache, steps, returns, discount
        self._episode = np.repeat(episodes, lengths)
        self._step = np.concatenate([np.arange(n) for n in lengths]) if len(lengths) else np.zeros(0, np.int64)
        if not len(self._step):
            raise ConfigurationError("the episodes hold no steps; collect more")
        oldest = returns if oldest_returns is None else oldest_returns
        place = np.linspace(0.0, 1.0, len(self._step)) if len(self._step) > 1 else np.ones(1)
        self._rewards = np.rint(oldest + (returns - oldest) * place).astype(np.int64)

    def __len__(self) -> int:
        """How many moments there are."""
        return len(self._step)

    def draw(self, size: int, generator: np.random.Generator) -> UnrollBatch:
        """`size` moments at random."""
        return self.moments(generator.integers(len(self), size=size))

    def moments(self, which: NDArray[np.int64]) -> UnrollBatch:
        """The moments `which` `[B]`."""
        cache = self._cache
        episode = self._episode[which][:, None]
        length = cache.lengths[episode]
        moment = self._step[which][:, None] + np.arange(self._steps + 1)
        step, played = moment[:, :-1], moment[:, :-1] < length
        last = np.minimum(step, length - 1)
        rows = cache.first_step[episode] + last
        end = cache.terminated[episode]
        returns, until = self._returns_of(episode, np.minimum(moment, length), self._rewards[which][:, None])
        weight = self._discount ** (until - np.minimum(moment, length)) * ~(end & (until == length))
        first = cache.first[episode]
        return UnrollBatch(
            torch.from_numpy(np.asarray(cache.observations[first + np.minimum(moment, length)])),
            torch.from_numpy(moment < length),
            torch.from_numpy(cache.actions[rows]),
            torch.from_numpy(played),
            torch.from_numpy(played & ((step < length - 1) | cache.final_valid[episode])),
            torch.from_numpy(np.where(played, cache.rewards[rows], 0).astype(np.float32)),
            torch.from_numpy((played & end & (step == length - 1)).astype(np.float32)),
            torch.from_numpy(returns.astype(np.float32)),
            torch.from_numpy(np.asarray(cache.observations[first + until])),
            torch.from_numpy(weight.astype(np.float32)),
        )

    def _returns_of(
        self, episode: NDArray[np.int64], moment: NDArray[np.int64], rewards: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The sum, discounted, of as many rewards `[B, 1]` from each `moment` `[B, K + 1]` on, and where they end."""
        cache = self._cache
        length = cache.lengths[episode]
        until = np.minimum(moment + rewards, length)
        total = np.zeros(moment.shape)
        for ahead in range(self._returns):
            at = moment + ahead
            rows = cache.first_step[episode] + np.minimum(at, length - 1)
            total += np.where(at < until, self._discount**ahead * cache.rewards[rows], 0.0)
        return total, until
