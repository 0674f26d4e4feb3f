"""Planners by name."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.planners.base import Planner
from dreamenv.planners.cem import CEM
from dreamenv.planners.mcts import MCTS
from dreamenv.planners.mppi import MPPI
from dreamenv.planners.shooting import RandomShooting

# Every planner by its `scheme`: a new one is added here.
PLANNERS: dict[str, type[RandomShooting | CEM | MPPI | MCTS]] = {
    planner.scheme: planner for planner in (RandomShooting, CEM, MPPI, MCTS)
}


def make_planner(scheme: str, **options: Any) -> Planner:
    """The planner called "shooting", "cem", "mppi" or "mcts", with its settings by keyword.

    Raises:
        ConfigurationError: An unknown scheme or setting (the nearest are named), or a number out of range.
    """
    if scheme not in PLANNERS:
        raise ConfigurationError(f"planner {scheme!r} is not known. {did_you_mean(str(scheme), PLANNERS)}")
    known = [field.name for field in fields(PLANNERS[scheme])]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"planner {scheme!r} has no setting {name!r}. {did_you_mean(name, known)}")
    return PLANNERS[scheme](**options)
