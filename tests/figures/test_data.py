"""Figures of collected episodes: what is drawn is what was recorded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.summary import EpisodeRecord, read_records
from dreamenv.errors import ConfigurationError, EpisodeFileError
from dreamenv.figures import data as figures
from dreamenv.types import Episode, RealEnvSpec
from tests.fakes import BOX, trained_like_world_model


def episode(steps: int, *, image: bool = False, box: bool = False, pay: float = 1.0, valid: bool = True) -> Episode:
    times = np.arange(steps + 1)
    pictures = np.broadcast_to(times.astype(np.uint8)[:, None, None, None], (steps + 1, 64, 64, 3))
    return Episode(
        observations=pictures.copy() if image else np.stack([times, -times], 1).astype(np.float32),
        actions=np.full((steps, 2), 0.5, np.float32) if box else np.arange(steps) % 3,
        rewards=np.full(steps, pay, np.float32),
        terminated=steps % 2 == 0,
        truncated=steps % 2 == 1,
        seed=0,
        policy="uniform",
        real_frames=steps,
        final_observation_valid=valid,
    )


def records_of(folder: Path, *episodes: Episode) -> list[EpisodeRecord]:
    store = EpisodeStore(folder)
    for one in episodes:
        store.append(one)
    return read_records(store)


def test_the_store_of_a_run_or_a_folder(tmp_path: Path) -> None:
    EpisodeStore(tmp_path / "episodes").append(episode(3))
    assert len(figures.find_store(tmp_path)) == len(figures.find_store(tmp_path / "episodes")) == 1
    with pytest.raises(EpisodeFileError, match="no such folder"):
        figures.find_store(tmp_path / "elsewhere")


def test_the_action_space_is_that_of_the_bundle_or_of_what_was_collected(tmp_path: Path) -> None:
    store = EpisodeStore(tmp_path / "run" / "episodes")
    store.append(episode(3))
    assert figures.recorded_action_space(tmp_path / "run") is None
    collection = {"real": asdict(RealEnvSpec("CartPole-v1"))}
    (store.path / "collection.json").write_text(json.dumps(collection), encoding="utf-8")
    assert figures.recorded_action_space(tmp_path / "run") == spaces.Discrete(2)
    assert figures.recorded_action_space(store.path) == spaces.Discrete(2)
    trained_like_world_model(image=False).save(tmp_path / "run" / "bundle")
    assert figures.recorded_action_space(tmp_path / "run") == BOX
    assert figures.recorded_action_space(store.path) == BOX


@pytest.mark.parametrize("content", ["{", '{"real": {"id": "CartPole-v1"}}', '{"seed": 0}'])
def test_a_damaged_record_of_the_collection_is_named(tmp_path: Path, content: str) -> None:
    EpisodeStore(tmp_path).append(episode(3))
    (tmp_path / "collection.json").write_text(content, encoding="utf-8")
    with pytest.raises(
        EpisodeFileError, match=r"collection\.json: (not JSON|real: (not a real environment|missing key))"
    ):
        figures.recorded_action_space(tmp_path)


def test_episodes_are_spread_from_the_worst_to_the_best(tmp_path: Path) -> None:
    records = records_of(tmp_path, *(episode(2, pay=pay) for pay in (5.0, 1.0, 3.0, 2.0, 4.0)))
    assert [r.undiscounted_return for r in figures.spread_over_returns(records, 3)] == [2.0, 6.0, 10.0]
    assert len(figures.spread_over_returns(records, 9)) == 5
    with pytest.raises(ConfigurationError, match="at least 1 episode"):
        figures.spread_over_returns(records, 0)


def test_a_contact_sheet_shows_first_and_last_picture(tmp_path: Path) -> None:
    records = records_of(tmp_path, *(episode(20, image=True, valid=index > 0) for index in range(9)))
    sheets = figures.contact_sheets(records, columns=3)
    assert [len(sheet.axes) for sheet in sheets] == [8, 1]
    cut, whole = sheets[0].axes[:2]
    for axes, steps in ((cut, [0, 10, 19]), (whole, [0, 10, 20])):
        assert [text.get_text() for text in axes.get_xticklabels()] == [str(step) for step in steps]
        strip = np.asarray(axes.images[0].get_array())
        assert strip.shape[0] == 64
        width = strip.shape[1] // 3
        assert [strip[0, column * width, 0] for column in range(3)] == steps
    assert "return 20.0\nterminated" in cut.get_ylabel()
    with pytest.raises(ConfigurationError, match="2 columns"):
        figures.contact_sheets(records, columns=1)


def test_a_contact_sheet_of_vectors_draws_lines(tmp_path: Path) -> None:
    (sheet,) = figures.contact_sheets(records_of(tmp_path, episode(4)))
    assert [line.get_ydata().tolist() for line in sheet.axes[0].lines] == [[0, 1, 2, 3, 4], [0, -1, -2, -3, -4]]


def test_returns_and_lengths_count_every_episode(tmp_path: Path) -> None:
    records = records_of(tmp_path, episode(2), episode(3), episode(3), episode(8))
    (axes,) = figures.returns_figure(records).axes
    assert sum(patch.get_height() for patch in axes.patches) == 4
    assert "mean 4.0" in [text.get_text() for text in axes.get_legend().get_texts()]
    left, right = figures.lengths_figure(records).axes
    assert sum(patch.get_height() for patch in left.patches) == 4
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["terminated", "truncated"]
    assert [patch.get_width() for patch in right.patches] == [0.5, 0.5]


def test_many_rounds_are_drawn_by_policy_alone(tmp_path: Path) -> None:
    for number in range(14):
        EpisodeStore(tmp_path / f"{number:02d}").append(episode(2))
    (axes,) = figures.returns_figure(read_records(EpisodeStore(tmp_path))).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()][:-1] == ["uniform (14)"]


def test_discrete_actions_are_counted_and_their_runs_drawn(tmp_path: Path) -> None:
    records = records_of(tmp_path, episode(6))
    left, right = figures.actions_figure(records, spaces.Discrete(4)).axes
    assert [patch.get_height() for patch in left.patches] == [2, 2, 2, 0]
    assert len(right.lines) == 3


def test_pairs_of_box_dimensions_are_drawn_over_the_whole_space(tmp_path: Path) -> None:
    figure = figures.actions_figure(records_of(tmp_path, episode(6, box=True)), BOX)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 3
    joint = next(axes for axes in shown if axes.get_title() == "0% of the cells")
    assert joint.get_xlim() == (-1, 1)
    assert joint.get_ylim() == (0, 2)
    counts = joint.collections[0].get_array()
    assert int(counts.sum()) == 6
    assert int(np.ma.count(counts)) == 1
    assert "the range of the action space" in figure.get_suptitle()
