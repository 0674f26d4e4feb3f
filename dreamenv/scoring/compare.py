"""Scores of two agents on the same real episodes, compared start by start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.errors import ConfigurationError
from dreamenv.files import read_json
from dreamenv.scoring.score import bootstrap_interval


@dataclass(frozen=True)
class Comparison:
    """Two agents on the episodes that both have played, in units of the real environment's return.

    Attributes:
        real_id: The real environment.
        agents: The first and the second one, as their scores name them.
        episodes: How many episodes both have played.
        means: Mean return of each over these episodes.
        difference: Mean of the second's return less the first's, episode by episode.
        standard_error: Of `difference`; 0 of a single episode.
        ci95: 95% bootstrap interval of `difference`.
        higher: In how many episodes the second has the higher return.
        lower: In how many it has the lower one.
    """

    real_id: str
    agents: tuple[str, str]
    episodes: int
    means: tuple[float, float]
    difference: float
    standard_error: float
    ci95: tuple[float, float]
    higher: int
    lower: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the keys of `dreamenv compare --json`."""
        return asdict(self)


def compare_scores(first: Mapping[str, Any], second: Mapping[str, Any]) -> Comparison:
    """The paired difference between two scores.

    What makes an episode hard for both agents, its track or its start, cancels out of the difference of their returns,
    so that far fewer episodes tell the agents apart than their own intervals suggest.

    Args:
        first: `Score.to_json()`, or what `dreamenv eval --json` has written.
        second: The same of the other agent. Episodes that only one of them has played do not count.

    Raises:
        ConfigurationError: No scores, scores of different real environments, or no episode that both have played.
    """
    returns = [_returns(score) for score in (first, second)]
    for key, what in (
        ("real_id", "the real environment"),
        ("kwargs", "what the real environment is made with"),
        ("changed", "what was changed of the real environment"),
    ):
        if first.get(key) != second.get(key):
            raise ConfigurationError(f"{what} differs: {first.get(key)} and {second.get(key)}; nothing can be compared")
    both = [seed for seed in returns[0] if seed in returns[1]]
    if not both:
        raise ConfigurationError(
            "no episode was played by both agents; score both with the same --seed, whose episodes begin alike however "
            "many there are"
        )
    mine, other = (np.array([played[seed] for seed in both]) for played in returns)
    gains = other - mine
    return Comparison(
        real_id=str(first["real_id"]),
        agents=(str(first.get("agent")), str(second.get("agent"))),
        episodes=len(both),
        means=(float(mine.mean()), float(other.mean())),
        difference=float(gains.mean()),
        standard_error=float(gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else 0.0,
        ci95=bootstrap_interval(gains.tolist()),
        higher=int((gains > 0).sum()),
        lower=int((gains < 0).sum()),
    )


def read_score(file: Path) -> dict[str, Any]:
    """The score that `dreamenv eval --json` has written to `file`.

    Raises:
        ConfigurationError: It cannot be read, or holds something else.
    """
    try:
        content = read_json(file)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read as a score ({error.strerror})") from error
    except ValueError as error:
        raise ConfigurationError(
            f"{file}: no score: not JSON, as `dreamenv eval --json` writes it ({error})"
        ) from error
    try:
        _returns(content)
    except ConfigurationError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    return dict(content)


def _returns(score: Any) -> dict[int, float]:
    """Return of each episode by its seed."""
    if not isinstance(score, Mapping) or not {"real_id", "seeds", "returns"} <= score.keys():
        raise ConfigurationError(
            "no score: expected what `dreamenv eval --json` writes, with real_id, seeds and returns"
        )
    seeds, returns = score["seeds"], score["returns"]
    if not isinstance(seeds, list | tuple) or not isinstance(returns, list | tuple) or len(seeds) != len(returns):
        raise ConfigurationError("no score: expected as many returns as seeds")
    try:
        found = {int(seed): float(value) for seed, value in zip(seeds, returns, strict=True)}
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"no score: seeds and returns are numbers ({error})") from error
    if not all(math.isfinite(value) for value in found.values()):
        raise ConfigurationError("no score: a return is not finite")
    return found
