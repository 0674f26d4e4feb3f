"""Arguments of planners, checked. Each function raises `ConfigurationError`."""

from __future__ import annotations

import math

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dreamenv.errors import ConfigurationError


def check_count(**counts: int) -> None:
    """Refuse what is not an integer of at least 1: a budget of zero plans nothing."""
    for name, count in counts.items():
        if not _is_whole(count) or count < 1:
            raise ConfigurationError(f"{name} must be an integer of at least 1, got {count!r}")


def check_rollout(rollout: int | None, horizon: int) -> None:
    """Refuse rollouts that are longer than what is looked ahead."""
    if rollout is not None and not (_is_whole(rollout) and 0 <= rollout <= horizon):
        raise ConfigurationError(
            f"rollout must be an integer in [0, horizon={horizon}] or None, which is the horizon; got {rollout!r}"
        )


def check_discount(discount: float) -> None:
    """Refuse a discount outside (0, 1]."""
    if not 0 < discount <= 1:
        raise ConfigurationError(f"discount must be in (0, 1], got {discount!r}")


def check_discount_of_players(discount: float) -> None:
    """Refuse a discount outside (0, 1] (one player) and [-1, 0) (two that take turns)."""
    if not 0 < abs(discount) <= 1:
        raise ConfigurationError(
            f"discount must be in (0, 1], or in [-1, 0) where two players take turns; got {discount!r}"
        )


def check_positive(**numbers: float) -> None:
    """Refuse what is not a finite number above 0."""
    for name, number in numbers.items():
        if not (math.isfinite(number) and number > 0):
            raise ConfigurationError(f"{name} must be a finite number above 0, got {number!r}")


def check_share(**shares: float) -> None:
    """Refuse what is not in [0, 1)."""
    for name, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigurationError(f"{name} must be in [0, 1), got {share!r}")


def _is_whole(number: object) -> bool:
    return isinstance(number, (int, np.integer)) and not isinstance(number, bool)


def checked_discrete(action_space: gym.Space[object], scheme: str) -> spaces.Discrete:
    """`action_space` itself, for a planner that takes Discrete actions alone."""
    if not isinstance(action_space, spaces.Discrete):
        raise ConfigurationError(
            f"{scheme} searches over Discrete actions, got {action_space}. Box actions: 'cem', "
            "'mppi', 'shooting', 'gradient' or 'ilqr'."
        )
    return action_space
