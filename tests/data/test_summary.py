"""What a store is said to hold is what was written into it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.summary import (
    COVERAGE_CELLS,
    action_coverage,
    group_rows,
    policy_family,
    read_records,
    run_lengths,
    summarise,
    total_row,
)
from dreamenv.errors import ConfigurationError, EpisodeFileError
from dreamenv.types import Episode

BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 1.0], np.float32))


def episode(actions: Any, *, policy: str = "uniform", pay: float = 1.0, **changes: Any) -> Episode:
    actions = np.asarray(actions)
    made = Episode(
        observations=np.zeros((len(actions) + 1, 2), np.float32),
        actions=actions.astype(np.float32) if actions.ndim == 2 else actions,
        rewards=np.full(len(actions), pay, np.float32),
        terminated=True,
        truncated=False,
        seed=0,
        policy=policy,
        real_frames=4 * len(actions),
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    found = EpisodeStore(tmp_path)
    found.append(episode([1, 1, 2], policy="sticky(stay=0.81)"))
    found.append(episode([2, 2, 2, 2, 1], policy="sticky(stay=0.35)", terminated=False, truncated=True))
    found.append(episode([1], policy="uniform", pay=-2.0, truncated=True))
    EpisodeStore(tmp_path / "01").append(episode([3, 3], policy="agent(runs/a)+noise(0.12)"))
    return found


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sticky(stay=0.81)", "sticky"),
        ("agent(runs/doom/agent)+noise(0.12)", "agent+noise"),
        ("autocorrelated(scale=0.2, τ)", "autocorrelated"),
        ("D4RL/door/human-v2", "D4RL/door/human-v2"),
        ("(odd)", "(odd)"),
    ],
)
def test_policy_family(name: str, family: str) -> None:
    assert policy_family(name) == family


def test_rows_by_policy_and_part(store: EpisodeStore) -> None:
    records = read_records(store)
    rows = {(row.part, row.policy): row for row in group_rows(records)}
    assert list(rows) == [("", "sticky"), ("", "uniform"), ("01", "agent+noise")]
    sticky = rows["", "sticky"]
    assert (sticky.episodes, sticky.actions, sticky.real_frames) == (2, 8, 32)
    assert (sticky.return_mean, sticky.return_min, sticky.return_max) == (4.0, 3.0, 5.0)
    assert sticky.return_std == pytest.approx(np.std([3, 5], ddof=1))
    assert (sticky.length_mean, sticky.length_min, sticky.length_max) == (4.0, 3, 5)
    assert (sticky.terminated, sticky.truncated, sticky.both) == (1, 1, 0)
    uniform = rows["", "uniform"]
    assert (uniform.return_std, uniform.return_mean, uniform.both, uniform.terminated) == (0.0, -2.0, 1, 0)
    whole = total_row(records)
    assert (whole.episodes, whole.actions, whole.real_frames, whole.policy) == (4, 11, 44, "all")
    assert (whole.terminated, whole.truncated, whole.both) == (2, 1, 1)


def test_reading_counts_episodes_and_refuses_none(store: EpisodeStore, tmp_path: Path) -> None:
    seen: list[int] = []
    read_records(store, progress=seen.append)
    assert seen == [1, 2, 3, 4]
    with pytest.raises(EpisodeFileError, match="dreamenv collect"):
        read_records(EpisodeStore(tmp_path / "nothing"))


def test_actions_of_two_environments_are_refused(store: EpisodeStore) -> None:
    EpisodeStore(store.path / "02").append(episode([[0.0, 0.0]]))
    with pytest.raises(EpisodeFileError, match=r"02/00000000\.h5: actions \(2,\) float32.*two environments"):
        read_records(store)


def test_runs_do_not_reach_across_episodes(store: EpisodeStore) -> None:
    assert {action: runs.tolist() for action, runs in run_lengths(read_records(store)).items()} == {
        1: [2, 1, 1],
        2: [1, 4],
        3: [2],
    }


def test_discrete_coverage_counts_what_was_never_taken(store: EpisodeStore) -> None:
    found = action_coverage(read_records(store), spaces.Discrete(4, start=1))
    assert found["counts"] == {"1": 4, "2": 5, "3": 2, "4": 0}
    assert found["share"]["2"] == pytest.approx(5 / 11)
    assert found["mean_run"] == {"1": pytest.approx(4 / 3), "2": 2.5, "3": 2.0, "4": None}
    assert set(action_coverage(read_records(store), None)["counts"]) == {"1", "2", "3"}
    with pytest.raises(ConfigurationError, match="do not belong to"):
        action_coverage(read_records(store), spaces.Discrete(3))


def test_box_coverage_is_of_the_space_not_of_the_data(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    # One quarter of the space, every cell of it
    half = np.arange(COVERAGE_CELLS // 2) + 0.5
    first, second = np.meshgrid(-1 + 2 * half / COVERAGE_CELLS, half / COVERAGE_CELLS)
    store.append(episode(np.stack([first.ravel(), second.ravel()], 1)))
    records = read_records(store)
    found = action_coverage(records, BOX)
    assert (found["kind"], found["bounds"], found["low"], found["high"]) == ("box", "action space", [-1, 0], [1, 1])
    assert found["pairs"] == [{"dimensions": [0, 1], "coverage": 0.25}]
    assert found["at_bound"] == [0.0, 0.0]
    assert found["mean"] == pytest.approx([-0.5, 0.25], abs=1e-6)
    own = action_coverage(records, None)
    assert (own["bounds"], own["low"][0]) == ("data", pytest.approx(-0.95))
    assert own["pairs"][0]["coverage"] > 0.2
    assert own["at_bound"][0] == pytest.approx(0.2)  # the first and the last of ten columns
    with pytest.raises(ConfigurationError, match="do not belong to"):
        action_coverage(records, spaces.Discrete(3))


def test_unbounded_dimensions_take_the_data_s_range(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path)
    store.append(episode([[0.0, -3.0], [0.5, 4.0]]))
    space = spaces.Box(np.array([-1.0, -np.inf], np.float32), np.array([1.0, np.inf], np.float32))
    found = action_coverage(read_records(store), space)
    assert (found["low"], found["high"]) == ([-1.0, -3.0], [1.0, 4.0])


def test_summary_is_json_ready(store: EpisodeStore) -> None:
    import json

    found = json.loads(json.dumps(summarise(read_records(store), None)))
    assert found["all"]["episodes"] == 4
    assert [row["policy"] for row in found["policies"]] == ["sticky", "uniform", "agent+noise"]
    assert found["action_coverage"]["kind"] == "discrete"
