"""One published figure and its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from dreamenv.errors import UnknownFigureError, did_you_mean

# What the commands of an entry wrote, by file: JSON as what it holds, other files as text
Outputs = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure. What does not apply is None.

    Attributes:
        mean: The figure itself: a mean return, a rate, a number of steps.
        std: Sample standard deviation of the episodes' returns.
        ci95: 95% bootstrap interval of `mean`.
        episodes: How many episodes `mean` is taken over.
        real_frames: Real frames that model and agent have consumed, action repeat and validation counted.
        real_steps: The same in actions of the agent: frames divided by the action repeat, rounded up.
        values: Further numbers of the same run, by name.
    """

    mean: float | None = None
    std: float | None = None
    ci95: tuple[float, float] | None = None
    episodes: int | None = None
    real_frames: int | None = None
    real_steps: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, float]:
        """Every number that is there, by the name that documents call it by: `ci95` is `low` and `high`."""
        found: dict[str, float | None] = {"mean": self.mean, "std": self.std}
        found |= dict(zip(("low", "high"), self.ci95 or (None, None), strict=True))
        found |= {"episodes": self.episodes, "real_frames": self.real_frames, "real_steps": self.real_steps}
        return {name: value for name, value in (found | dict(self.values)).items() if value is not None}

    def number(self, name: str) -> float:
        """The number called `name`.

        Raises:
            UnknownFigureError: The figure has no such number.
        """
        known = self.numbers()
        if name not in known:
            raise UnknownFigureError(f"no number is called {name!r}. {did_you_mean(name, known)}")
        return known[name]

    def in_steps(self, action_repeat: int) -> Figure:
        """The same figure with `real_steps` worked out from `real_frames` where only these are known."""
        if self.real_steps is not None or self.real_frames is None:
            return self
        given = {part.name: getattr(self, part.name) for part in fields(self)}
        return Figure(**given | {"real_steps": math.ceil(self.real_frames / action_repeat)})


def figure_from(numbers: Mapping[str, Any]) -> Figure:
    """A figure from numbers by name; those that are no attribute become its `values`, None is left out."""
    known = {part.name for part in fields(Figure)} - {"values"}
    given = {name: value for name, value in numbers.items() if name in known and value is not None}
    if "ci95" in given:
        low, high = given["ci95"]
        given["ci95"] = (float(low), float(high))
    given |= {name: int(given[name]) for name in ("episodes", "real_frames", "real_steps") if name in given}
    others = {name: float(value) for name, value in numbers.items() if name not in known and value is not None}
    return Figure(**given, values=others)
