"""`dreamenv compare`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv.errors import ConfigurationError
from tests.command_line import call
from tests.scoring.test_score import pendulum_model


def test_two_scores_are_compared_start_by_start(tmp_path: Path) -> None:
    pendulum_model(max_episode_steps=6).save(tmp_path)
    known = ["eval", str(tmp_path), "--agent", "random", "--workers", "0"]
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    call(*known, "--episodes", "3", "--json", first)
    call(*known, "--episodes", "2", "--json", second)
    shown = call("compare", first, second, "--json", tmp_path / "compared.json").stdout
    assert "Pendulum-v1, 2 episodes that both have played" in shown
    assert "difference: +0.0, standard error 0.0 (95% interval +0.0 to +0.0); higher in 0 episodes" in shown
    figures = json.loads((tmp_path / "compared.json").read_text())
    assert figures["means"][0] == figures["means"][1] == pytest.approx(json.loads(second.read_text())["mean"])
    call(*known, "--episodes", "3", "--seed", "1", "--json", second)
    with pytest.raises(ConfigurationError, match="score both with the same --seed"):
        call("compare", first, second)


def test_a_file_that_is_no_score_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"mean": 3}')
    (tmp_path / "broken.json").write_text("{")
    for name, message in (
        ("other.json", "other.json: no score"),
        ("broken.json", "broken.json: no score: not JSON"),
        ("missing.json", "missing.json: cannot be read as a score"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            call("compare", tmp_path / name, tmp_path / name)
