"""`dreamenv evolve`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv.agents import load_agent
from dreamenv.errors import ConfigurationError
from tests.command_line import call

SMALL = ("--generations", "2", "--population", "4", "--rollouts", "2", "--horizon", "3", "--workers", "0")


def test_evolution_is_validated_in_this_process(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr("dreamenv.workers.LocalPool", refuse)
    out, file = tmp_path / "agent", tmp_path / "figures" / "evolve.json"
    choices = ("--start", "replay", "--optimiser", "openai", "--action-map", "argmax")
    choices += ("--action-noise", "0.1", "--reward-clip", "-1", "2")
    validation = ("--validate-every", "2", "--validation-episodes", "1")
    result = call("evolve", bundle, "--out", out, *SMALL, *choices, *validation, "--json", file)
    figures = json.loads(file.read_text(encoding="utf-8"))
    assert (figures["agent"], figures["generations"]) == (str(out / "agent.safetensors"), 2)
    assert figures["validation_mean"] is not None
    assert f"real frames of validation: {figures['real_frames']:,}" in result.stdout
    settings = load_agent(out).provenance["settings"]
    names = ("start", "optimiser", "action_map", "rollouts", "horizon", "action_noise", "reward_clip")
    assert [settings[name] for name in names] == ["replay", "openai", "argmax", 2, 3, 0.1, [-1, 2]]


def test_the_search_begins_at_a_linear_agent(bundle: Path, tmp_path: Path) -> None:
    call("evolve", bundle, "--out", tmp_path / "agent", *SMALL, "--begin", bundle)
    assert load_agent(tmp_path / "agent").provenance["settings"]["begin"] is not None


def test_choices_are_refused_by_name(bundle: Path) -> None:
    for option, wrong in (("--start", "middle"), ("--optimiser", "adam"), ("--action-map", "round")):
        refused = call("evolve", bundle, option, wrong)
        assert refused.exit_code == 2
        assert f"'{wrong}' is not one of" in refused.output
    with pytest.raises(ConfigurationError, match="sigma must be above 0"):
        call("evolve", bundle, "--sigma", "0")
    with pytest.raises(ConfigurationError, match="no members that could disagree"):
        call("evolve", bundle, "--max-disagreement", "0.5", *SMALL[2:])
