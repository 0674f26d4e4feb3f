"""`dreamenv eval` of planners."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv.errors import ConfigurationError, UnknownDreamError
from tests.command_line import call
from tests.scoring.test_score import pendulum_model

PLANNER = "planner:cem,horizon=3,candidates=8,elites=2,iterations=1"


def test_a_planner_is_scored_by_its_name(tmp_path: Path) -> None:
    world = pendulum_model(max_episode_steps=6)
    world.provenance["real_frames"] = 1000
    world.save(tmp_path)
    arguments = ["eval", str(tmp_path), "--agent", PLANNER, "--episodes", "2", "--workers", "0"]
    shown = call(*arguments, "--json", tmp_path / "score.json").stdout
    figures = json.loads((tmp_path / "score.json").read_text())
    assert figures["agent"] == PLANNER
    assert figures["lengths"] == [6, 6]
    assert f"Pendulum-v1, agent {PLANNER}: {figures['mean']:.1f} ± {figures['std']:.1f} over 2 episodes" in shown
    assert "real frames consumed by model and agent: 1,000" in shown
    assert f"{figures['ms_per_decision']:.2f} ms per decision" in shown
    assert figures["ms_per_decision"] > 0.1
    for name, error, message in (
        ("planner:cme", ConfigurationError, "Did you mean cem?"),
        ("planner:cem,candidates=0", ConfigurationError, "candidates must be an integer of at least 1, got 0"),
        ("plnner:cem", UnknownDreamError, "no scheme of agents is called 'plnner'"),
    ):
        with pytest.raises(error, match=message):
            call("eval", tmp_path, "--agent", name)


def test_the_real_environment_can_be_changed_for_a_score(tmp_path: Path) -> None:
    pendulum_model(max_episode_steps=6).save(tmp_path)
    known = ["eval", str(tmp_path), "--agent", "random", "--episodes", "3", "--workers", "0"]
    found = {}
    for name, change in (
        ("as it is", []),
        ("lighter", ["--real", "kwargs.g=2.0"]),
        ("longer", ["--real", "max_episode_steps=9"]),
    ):
        call(*known, *change, "--json", tmp_path / "score.json")
        found[name] = json.loads((tmp_path / "score.json").read_text())
    assert "changed" not in found["as it is"]
    assert found["lighter"]["changed"] == {"kwargs": {"g": 2.0}}
    assert found["lighter"]["mean"] > found["as it is"]["mean"], "the pendulum falls more slowly"
    assert found["longer"]["lengths"] == [9, 9, 9]
    with pytest.raises(ConfigurationError, match="no field 'kwarg' can be changed. Did you mean kwargs"):
        call(*known, "--real", "kwarg.g=2.0")
    with pytest.raises(ConfigurationError, match="no field 'id'"):
        call(*known, "--real", "id=CartPole-v1")
