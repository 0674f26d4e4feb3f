"""Whether M's rewards and probabilities of an end mean what they say: predicted against real, by bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dreamenv.types import Episode

# Ends are rare: bins of equal width would put nearly all steps into the first.
_PROBABILITY_EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)


def ends(episodes: Sequence[Episode]) -> NDArray[np.bool_]:
    """`[N]`, all steps of all episodes: True where the task ended; a time limit is no end."""
    found = [np.zeros(len(episode), bool) for episode in episodes]
    for flags, episode in zip(found, episodes, strict=True):
        flags[-1] = episode.terminated
    return np.concatenate(found)


def reward_calibration(
    predicted: NDArray[np.float32], real: NDArray[np.float32], *, bins: int = 10
) -> tuple[dict[str, float], ...]:
    """Mean predicted and mean real reward in bins of equally many steps, by predicted reward.

    Args:
        predicted: `[N]`.
        real: `[N]`.
        bins: At most so many.

    Returns:
        Rows of `predicted`, `real` and `steps`, by rising prediction.
    """
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return tuple(_bin(predicted[part], real[part]) for part in parts)


def termination_calibration(probability: NDArray[np.float32], ended: NDArray[np.bool_]) -> tuple[dict[str, float], ...]:
    """Mean predicted probability and real rate of ends, in bins by predicted probability that widen towards 1.

    Returns:
        Rows of `predicted`, `real` and `steps`, by rising prediction; bins without steps are left out.
    """
    which = np.searchsorted(_PROBABILITY_EDGES[1:-1], probability, side="right")
    groups = [which == number for number in range(len(_PROBABILITY_EDGES) - 1)]
    return tuple(_bin(probability[group], ended[group]) for group in groups if group.any())


def _bin(predicted: NDArray[np.float32], real: NDArray[np.generic]) -> dict[str, float]:
    return {
        "predicted": float(predicted.mean(dtype=np.float64)),
        "real": float(real.astype(np.float64).mean()),
        "steps": len(predicted),
    }
