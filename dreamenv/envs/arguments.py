"""Arguments of the vector environment, checked. Each function raises `ConfigurationError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.world_model import WorldModel, check_time_limit


def checked_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """`mode` as the enum, of its value or its name."""
    if isinstance(mode, str) and mode in AutoresetMode.__members__:
        return AutoresetMode[mode]
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        known = [*AutoresetMode.__members__, *(str(item.value) for item in AutoresetMode)]
        raise ConfigurationError(f"autoreset_mode={mode!r} is not known. {did_you_mean(str(mode), known)}") from error


def checked_time_limit(max_episode_steps: int | None, world_model: WorldModel) -> int:
    """Actions until an episode is truncated; None is the model's limit."""
    return check_time_limit(world_model.max_episode_steps if max_episode_steps is None else max_episode_steps)


def row_seeds(seed: int | Sequence[int | None] | None, rows: int) -> list[int | None]:
    """A seed for each row, as Gymnasium counts them: an int `s` is `s + i` for row i."""
    if seed is None:
        return [None] * rows
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + row for row in range(rows)]
    given: list[object] = list(seed) if isinstance(seed, Iterable) else [seed]
    if not all(item is None or isinstance(item, (int, np.integer)) for item in given):
        raise ConfigurationError(f"seed must be None, an int, or an int or None for each dream; got {seed!r}")
    seeds = [None if item is None else int(item) for item in seed]
    if len(seeds) != rows:
        raise ConfigurationError(f"got {len(seeds)} seeds, expected one for each of {rows} dreams, or a single int")
    return seeds


def checked_reset_mask(mask: Any, rows: int) -> NDArray[np.bool_]:
    """`mask` itself, `[rows]` bool."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (rows,) or not mask.any():
        shown = f"{mask.dtype} {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ConfigurationError(
            f"options['reset_mask'] is {shown}, expected a numpy bool array of shape ({rows},) with at least one True"
        )
    return mask
