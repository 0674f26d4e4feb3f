"""`dreamenv distill`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv.agents import load_agent
from dreamenv.errors import ConfigurationError
from tests.command_line import call
from tests.fakes import trained_like_world_model

SMALL = ("rounds=1", "decisions=20", "dreams=4", "steps=3", "batch_size=4", "width=8")


def test_a_planner_becomes_an_agent(tmp_path: Path) -> None:
    trained_like_world_model().save(tmp_path / "bundle")
    settings = [part for setting in SMALL for part in ("--set", setting)]
    planner = ("--planner", "planner:shooting,horizon=2,candidates=3")
    places = ("--out", tmp_path / "out", "--json", tmp_path / "figures.json", "--workers", 0)
    result = call("distill", tmp_path / "bundle", *planner, *places, *settings)
    assert result.exit_code == 0, result.output
    assert "round 0: the likeliest action is the planner's in " in result.output
    agent = load_agent(tmp_path / "out")
    assert agent.kind == "distilled"
    assert agent.provenance["planner"]["candidates"] == 3
    assert agent.provenance["part"] == 4, "workers have made it in parts"
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert len(figures["rounds"]) == 1


def test_an_unknown_option(tmp_path: Path) -> None:
    trained_like_world_model().save(tmp_path / "bundle")
    with pytest.raises(ConfigurationError, match="round: unknown option. Did you mean rounds?"):
        call("distill", tmp_path / "bundle", "--set", "round=1")
