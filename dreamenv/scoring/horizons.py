"""How many dreamed actions a dream is compared with reality after."""

from __future__ import annotations

from collections.abc import Sequence

from dreamenv.errors import ConfigurationError

HORIZONS = (1, 5, 15, 50)


def check_horizons(horizons: Sequence[int]) -> tuple[int, ...]:
    """`horizons` in order.

    Raises:
        ConfigurationError: None, or one below 1.
    """
    if not horizons or min(horizons) < 1:
        raise ConfigurationError(f"horizons must be whole numbers of at least 1, got {list(horizons)}")
    return tuple(sorted(set(horizons)))
