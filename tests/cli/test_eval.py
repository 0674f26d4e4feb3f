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
