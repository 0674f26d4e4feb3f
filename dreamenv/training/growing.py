"""Real episodes in memory, to which more are added while a model learns from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.types import Episode

_FIRST_ROWS = 1024


class GrowingCache:
    """An `EpisodeCache` in memory that grows; what it has given out before stays as it was.

    Rows are kept in arrays that double when they are full, so that adding an episode costs its own length on average.
    """

    def __init__(self) -> None:
        self._observations: NDArray[Any] | None = None
        self._actions: NDArray[Any] | None = None
        self._rewards = np.empty(0, np.float32)
        self._rows = self._steps = 0
        self._lengths: list[int] = []
        self._terminated: list[bool] = []
        self._final_valid: list[bool] = []

    def append(self, episode: Episode) -> None:
        """Add an episode behind the others.

        Raises:
            ConfigurationError: Its observations or actions are of another shape or type than those before.
        """
        for name, kept in (("observations", self._observations), ("actions", self._actions)):
            given = getattr(episode, name)
            if kept is not None and (given.shape[1:], given.dtype) != (kept.shape[1:], kept.dtype):
                raise ConfigurationError(
                    f"an episode with {name} {given.shape[1:]} {given.dtype}, those before have "
                    f"{kept.shape[1:]} {kept.dtype}"
                )
        self._observations = _put(self._observations, self._rows, episode.observations)
        self._actions = _put(self._actions, self._steps, episode.actions)
        self._rewards = _put(self._rewards, self._steps, episode.rewards.astype(np.float32))
        self._rows += len(episode) + 1
        self._steps += len(episode)
        self._lengths.append(len(episode))
        self._terminated.append(episode.terminated)
        self._final_valid.append(episode.final_observation_valid)

    @property
    def steps(self) -> int:
        """Actions of all episodes."""
        return self._steps

    def cache(self) -> EpisodeCache:
        """The episodes so far, as views of the rows.

        Raises:
            ConfigurationError: There are none.
        """
        if self._observations is None or self._actions is None:
            raise ConfigurationError("there are no episodes yet")
        lengths = np.array(self._lengths, np.int64)
        return EpisodeCache(
            observations=self._observations[: self._rows],
            actions=self._actions[: self._steps],
            rewards=self._rewards[: self._steps],
            first=np.concatenate([[0], np.cumsum(lengths[:-1] + 1)]).astype(np.int64),
            lengths=lengths,
            terminated=np.array(self._terminated, bool),
            final_valid=np.array(self._final_valid, bool),
        )


def _put(kept: NDArray[Any] | None, at: int, more: NDArray[Any]) -> NDArray[Any]:
    """`more` at row `at` of `kept`, or of an array twice as long where it has no room."""
    wanted = at + len(more)
    if kept is None or wanted > len(kept):
        larger = np.empty((max(2 * wanted, _FIRST_ROWS), *more.shape[1:]), more.dtype)
        if kept is not None:
            larger[:at] = kept[:at]
        kept = larger
    kept[at:wanted] = more
    return kept
