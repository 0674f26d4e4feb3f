"""The register of planners, by the `scheme` that follows `planner:` in an agent's name."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.kinds import Register
from dreamenv.planners.base import Planner

# Frozen dataclasses that are `Planner`s
PLANNERS: Register[Any] = Register(
    "planner",
    {
        "cem": "dreamenv.planners.cem:CEM",
        "gradient": "dreamenv.planners.gradient:GradientPlanner",
        "ilqr": "dreamenv.planners.ilqr:ILQR",
        "mcts": "dreamenv.planners.mcts:MCTS",
        "mppi": "dreamenv.planners.mppi:MPPI",
        "shooting": "dreamenv.planners.shooting:RandomShooting",
    },
)

# What `Planner` has, which all planners need
_MEMBERS = ("scheme", "length", "plan", "check_actions", "cold", "shifted")


def register_planner(scheme: str, planner: Any) -> None:
    """Make `planner:SCHEME` an agent that plans by `planner`, wherever an agent is named.

    Packages can name theirs in the entry-point group `dreamenv.planner`.

    Args:
        scheme: The name; also the class's `scheme`.
        planner: A frozen dataclass whose fields, all with defaults, are the settings.

    Raises:
        ConfigurationError: Another planner has this name, or the class is no dataclass, has a field without a default
            or another `scheme`, or lacks what `Planner` has.
    """
    if not is_dataclass(planner):
        raise ConfigurationError(f"planner {scheme!r}: {planner} is no dataclass, whose fields are the settings")
    missing = [name for name in _MEMBERS if not hasattr(planner, name)]
    if missing:
        raise ConfigurationError(f"planner {scheme!r}: {planner} lacks {', '.join(missing)} of Planner")
    bare = [field.name for field in fields(planner) if field.default is MISSING and field.default_factory is MISSING]
    if bare:
        raise ConfigurationError(f"planner {scheme!r}: {', '.join(bare)} of {planner} has no default")
    own = getattr(planner, "scheme", None)
    if own != scheme:
        raise ConfigurationError(f"planner {scheme!r}: {planner}.scheme is {own!r}, by which it is named")
    PLANNERS.add(scheme, planner)


def make_planner(scheme: str, **options: Any) -> Planner:
    """The planner called "shooting", "cem", "mppi", "mcts", "gradient" or "ilqr", or as it was registered, with its
    settings by keyword.

    Raises:
        ConfigurationError: An unknown scheme or setting (the nearest are named), or a number out of range.
    """
    planner = PLANNERS[scheme]
    known = [field.name for field in fields(planner)]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"planner {scheme!r} has no setting {name!r}. {did_you_mean(name, known)}")
    made: Planner = planner(**options)
    return made
