"""What a store of episodes holds: returns, lengths, ends and how far its actions reach, read without the frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.data.episode_file import read_attributes, read_steps
from dreamenv.data.episodes import EpisodeStore
from dreamenv.errors import ConfigurationError, EpisodeFileError

# Cells along each dimension of a Box when its coverage is counted.
COVERAGE_CELLS = 20
ENDS = ("terminated", "truncated", "both")


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode without its frames.

    Attributes:
        file: Where it is stored.
        part: Its folder within the store, "" for the store's own.
        actions: `[T, A]` float32 (Box) or `[T]` int64 (Discrete).
        rewards: `[T]` float32, units of the real environment.
        end: "terminated", "truncated" or "both".
        policy: Name of what acted, without the parameters that were drawn for the episode.
        real_frames: Real frames consumed, action repeat counted.
    """

    file: Path
    part: str
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    end: str
    policy: str
    real_frames: int

    @property
    def undiscounted_return(self) -> float:
        """Sum of the rewards."""
        return float(self.rewards.sum(dtype=np.float64))

    @property
    def group(self) -> str:
        """Policy, with its part of the store where there is one."""
        return f"{self.part}: {self.policy}" if self.part else self.policy


@dataclass(frozen=True)
class GroupRow:
    """The episodes of one policy in one part of a store.

    Attributes:
        part: Folder within the store, "" for its own.
        policy: Name of what acted.
        episodes: How many episodes.
        actions: Their actions.
        real_frames: Their real frames, action repeat counted.
        return_mean, return_std, return_min, return_max: Of the undiscounted returns; the standard deviation is of the
            sample (n - 1), 0 of a single episode.
        length_mean, length_min, length_max: In actions.
        terminated, truncated, both: Episodes that ended so; each is counted once.
    """

    part: str
    policy: str
    episodes: int
    actions: int
    real_frames: int
    return_mean: float
    return_std: float
    return_min: float
    return_max: float
    length_mean: float
    length_min: int
    length_max: int
    terminated: int
    truncated: int
    both: int


def read_records(store: EpisodeStore, *, progress: Callable[[int], None] = lambda episode: None) -> list[EpisodeRecord]:
    """The episodes of `store` in order; `progress` is called after each with how many have been read.

    Raises:
        EpisodeFileError: There are none, one is cut short, or their actions are not of one form.
    """
    records: list[EpisodeRecord] = []
    for file in store.files():
        found = read_attributes(file)
        actions, rewards = read_steps(file)
        if records and (actions.shape[1:], actions.dtype) != (records[0].actions.shape[1:], records[0].actions.dtype):
            raise EpisodeFileError(
                f"{file}: actions {actions.shape[1:]} {actions.dtype}, the first episode has "
                f"{records[0].actions.shape[1:]} {records[0].actions.dtype}; two environments in one store?"
            )
        end = "both" if found["terminated"] and found["truncated"] else "terminated"
        if not found["terminated"]:
            end = "truncated"
        part = file.parent.relative_to(store.path).as_posix()
        part = "" if part == "." else part
        policy = policy_family(found["policy"])
        records.append(EpisodeRecord(file, part, actions, rewards, end, policy, found["real_frames"]))
        progress(len(records))
    if not records:
        raise EpisodeFileError(f"{store.path}: no episodes; run `dreamenv collect` first")
    return records


def policy_family(name: str) -> str:
    """A policy's name without the parameters that were drawn for its episode: `sticky(stay=0.81)` is `sticky`."""
    return re.sub(r"\([^()]*\)", "", name).strip() or name


def group_rows(records: Sequence[EpisodeRecord]) -> list[GroupRow]:
    """A row for each policy and part, by part, the policy of the most episodes first."""
    groups: dict[tuple[str, str], list[EpisodeRecord]] = {}
    for record in records:
        groups.setdefault((record.part, record.policy), []).append(record)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1]))
    return [_row(part, policy, members) for (part, policy), members in ordered]


def total_row(records: Sequence[EpisodeRecord]) -> GroupRow:
    """All episodes as one row."""
    return _row("", "all", records)


def _row(part: str, policy: str, records: Sequence[EpisodeRecord]) -> GroupRow:
    returns = np.array([record.undiscounted_return for record in records])
    lengths = np.array([len(record.rewards) for record in records])
    ends = [record.end for record in records]
    return GroupRow(
        part,
        policy,
        len(records),
        int(lengths.sum()),
        sum(record.real_frames for record in records),
        float(returns.mean()),
        float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        float(returns.min()),
        float(returns.max()),
        float(lengths.mean()),
        int(lengths.min()),
        int(lengths.max()),
        *(ends.count(end) for end in ENDS),
    )


def box_bounds(records: Sequence[EpisodeRecord], action_space: gym.Space[Any] | None) -> NDArray[np.float64]:
    """`[2, A]` least and greatest action: of the space where it is bounded, else of the data.

    Raises:
        ConfigurationError: A space that is not a Box of as many dimensions as the actions.
    """
    actions = all_actions(records)
    bounds = np.stack([actions.min(0), actions.max(0)]).astype(np.float64)
    if action_space is None:
        return bounds
    if not isinstance(action_space, spaces.Box) or action_space.shape != actions.shape[1:]:
        raise ConfigurationError(f"actions of {actions.shape[1]} dimensions do not belong to {action_space}")
    bounded = (np.abs(action_space.low) < 1e6) & (np.abs(action_space.high) < 1e6)
    return np.where(bounded, np.stack([action_space.low, action_space.high]), bounds)


def all_actions(records: Sequence[EpisodeRecord]) -> NDArray[Any]:
    """The actions of all episodes, one after another."""
    return np.concatenate([record.actions for record in records])


def cell_counts(actions: NDArray[Any], bounds: NDArray[np.float64], dimensions: Sequence[int]) -> NDArray[np.int64]:
    """Actions in each cell of an even grid over `dimensions`, `COVERAGE_CELLS` along each."""
    ranges = [(low, high if high > low else low + 1.0) for low, high in bounds[:, list(dimensions)].T]
    counts, _ = np.histogramdd(actions[:, list(dimensions)].astype(np.float64), bins=COVERAGE_CELLS, range=ranges)
    return counts.astype(np.int64)


def run_lengths(records: Sequence[EpisodeRecord]) -> dict[int, NDArray[np.int64]]:
    """For each Discrete action, how many steps it was held, one number each time it was taken up within an episode."""
    found: dict[int, list[int]] = {}
    for record in records:
        for action, run in groupby(record.actions.tolist()):
            found.setdefault(int(action), []).append(len(list(run)))
    return {action: np.array(runs) for action, runs in sorted(found.items())}


def action_coverage(records: Sequence[EpisodeRecord], action_space: gym.Space[Any] | None) -> dict[str, Any]:
    """How far the actions reach, JSON-ready.

    Discrete: `counts`, `share` and `mean_run` (steps for which an action is held) by action; an action of the space
    that was never taken counts 0. Box: `low`, `high`, `mean`, `std` and `at_bound` (share of actions on a bound) by
    dimension, and `pairs` with the share of the cells (20 along each dimension) that hold an action. `bounds` tells
    whether low and high are those of the action space or, where that is not known, of the data.

    Raises:
        ConfigurationError: A space that the actions do not belong to.
    """
    actions = all_actions(records)
    if actions.ndim == 1:
        return _discrete_coverage(records, actions, action_space)
    bounds = box_bounds(records, action_space)
    low, high = bounds
    at_bound = ((actions <= low) | (actions >= high)).mean(0)
    pairs = [
        {"dimensions": list(pair), "coverage": float((cell_counts(actions, bounds, pair) > 0).mean())}
        for pair in combinations(range(actions.shape[1]), 2)
    ]
    columns = {"low": low, "high": high, "mean": actions.mean(0), "std": actions.std(0), "at_bound": at_bound}
    return {
        "kind": "box",
        "bounds": "data" if action_space is None else "action space",
        "cells": COVERAGE_CELLS,
        **{name: [float(value) for value in values] for name, values in columns.items()},
        "pairs": pairs,
    }


def _discrete_coverage(
    records: Sequence[EpisodeRecord], actions: NDArray[Any], action_space: gym.Space[Any] | None
) -> dict[str, Any]:
    known = sorted({int(action) for action in np.unique(actions)})
    if action_space is not None:
        if not isinstance(action_space, spaces.Discrete) or not all(action_space.contains(a) for a in known):
            raise ConfigurationError(f"actions {known} do not belong to {action_space}")
        known = list(range(int(action_space.start), int(action_space.start + action_space.n)))
    runs = run_lengths(records)
    counts = {action: int(runs[action].sum()) if action in runs else 0 for action in known}
    return {
        "kind": "discrete",
        "counts": {str(action): count for action, count in counts.items()},
        "share": {str(action): count / len(actions) for action, count in counts.items()},
        "mean_run": {str(action): float(runs[action].mean()) if action in runs else None for action in known},
    }


def summarise(records: Sequence[EpisodeRecord], action_space: gym.Space[Any] | None) -> dict[str, Any]:
    """All figures of a store, JSON-ready: `all`, `policies` (a row a policy and part) and `action_coverage`."""
    return {
        "all": asdict(total_row(records)),
        "policies": [asdict(row) for row in group_rows(records)],
        "action_coverage": action_coverage(records, action_space),
    }
