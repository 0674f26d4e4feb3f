"""Which episodes are held out from every fit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError

# One episode in this many is held out from every fit.
HELD_OUT_EVERY = 20


def held_out_episodes(cache: EpisodeCache) -> NDArray[np.bool_]:
    """`[E]` True for the episodes that no fit sees: the first, and every twentieth behind it.

    An episode keeps its place while more are collected, and the newest, which a loop's agent has just played and is to
    learn from, is among them only where its turn has come.

    Raises:
        ConfigurationError: There is only one episode.
    """
    if cache.episodes < 2:
        raise ConfigurationError(
            f"fitting needs at least 2 episodes, one of them held out; got {cache.episodes}. Collect more frames."
        )
    return np.arange(cache.episodes) % HELD_OUT_EVERY == 0
