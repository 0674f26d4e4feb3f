"""Curves: what was recorded is what is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv.errors import BundleError
from dreamenv.figures.runs import (
    dream_against_real_figure,
    read_rounds,
    read_scalars,
    rounds_figure,
    training_figure,
)
from dreamenv.training.tensorboard import TensorBoardRecorder

ROUNDS = [
    {"number": 0, "real_frames": 1000, "dream_mean": 5.0, "real_mean": -1.0, "real_std": 2.0},
    {"number": 1, "real_frames": 1500, "dream_mean": 7.0, "real_mean": 3.0, "real_std": 1.0},
]


def record(run: Path, values: dict[int, float], tag: str = "train/latent_nll") -> None:
    recorder = TensorBoardRecorder(run / "tensorboard")
    for step, value in values.items():
        recorder.scalars("memory", step, {tag: value})
    recorder.close()


def test_scalars_of_a_continued_run_are_one_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    record(tmp_path, {10: 3.0, 20: 2.0, 30: 1.5})
    monkeypatch.setattr("time.time", lambda: 2000.0)  # the file's name begins with it
    record(tmp_path, {20: 2.25, 30: 1.25})
    assert read_scalars(tmp_path) == {"memory/train/latent_nll": [(10, 3.0), (20, 2.25), (30, 1.25)]}
    assert read_scalars(tmp_path / "elsewhere") == {}


def test_training_draws_what_there_is(tmp_path: Path) -> None:
    assert training_figure({"loop/real_std": [(0, 1.0)]}) is None
    figure = training_figure(
        {"memory/train/latent_nll": [(1, 2.0), (5, 1.0)], "memory/held_out/latent_nll": [(5, 1.5)]}
    )
    assert figure is not None
    (axes,) = figure.axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 2], [5, 1]], [[5, 1.5]]]


def test_stages_of_any_recipe_are_drawn() -> None:
    curve = [(1, 2.0), (5, 1.0)]
    tags = ["model/train/divergence", "model/train/gradient_norm", "model/held_out/divergence", "model/train/picture"]
    figure = training_figure(dict.fromkeys([*tags, "loop/real_std"], curve))
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes] == ["model: divergence", "model: picture"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]
    # a stage with scalars that have words of their own is drawn by these alone
    worded = training_figure(dict.fromkeys([*tags, "vision/train/kl", "vision/train/mse"], curve))
    assert worded is not None
    assert [axes.get_title() for axes in worded.axes] == ["V: KL divergence", "model: divergence", "model: picture"]
    many = training_figure({f"model/train/{number}": curve for number in range(20)})
    assert many is not None
    assert len(many.axes) == 8


def test_rounds_are_drawn_by_real_frames() -> None:
    figure = rounds_figure({"one": ROUNDS, "two": ROUNDS[:1]})
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["one: real validation"] == [[1000, -1], [1500, 3]]
    assert lines["one: dream"] == [[1000, 5], [1500, 7]]
    assert lines["two: real validation"] == [[1000, -1]]


def test_dream_is_drawn_against_real_beside_the_line() -> None:
    figure = dream_against_real_figure({"loop": [(114.0, 49.0), (994.0, 738.0)]})
    line, agents = figure.axes[0].lines
    assert line.get_xydata().tolist() == [[49, 49], [994, 994]]
    assert agents.get_xydata().tolist() == [[114, 49], [994, 738]]


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"rounds.json: cannot be read .*dreamenv loop"):
        read_rounds(tmp_path)
    for content, message in (("[{", "not JSON"), (json.dumps([{"number": 0}]), "each needs dream_mean, number")):
        (tmp_path / "rounds.json").write_text(content, encoding="utf-8")
        with pytest.raises(BundleError, match=message):
            read_rounds(tmp_path)
    (tmp_path / "rounds.json").write_text(json.dumps(ROUNDS), encoding="utf-8")
    assert read_rounds(tmp_path) == ROUNDS


def test_a_run_that_has_logged_once_is_a_point() -> None:
    figure = training_figure({"memory/train/loss": [(1, 0.5)], "memory/held_out/loss": [(1, 0.6), (2, 0.5)]})
    assert figure is not None
    assert [line.get_marker() for line in figure.axes[0].lines] == ["o", ""]
