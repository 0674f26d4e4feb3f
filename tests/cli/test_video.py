"""`dreamenv video`."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamenv.errors import ConfigurationError
from tests.command_line import call


def test_video_of_both(bundle: Path, tmp_path: Path) -> None:
    result = call("video", bundle, "--file", tmp_path / "both.gif", "--steps", "4", "--size", "64")
    assert result.exit_code == 0
    assert "reality: 4 actions, return 8.0" in result.stdout
    assert result.stdout.startswith("dream: ")
    assert (tmp_path / "both.gif").stat().st_size > 0


def test_video_of_a_dream_alone_by_random(bundle: Path, tmp_path: Path) -> None:
    result = call("video", bundle, "--file", tmp_path / "d.mp4", "--what", "dream", "--agent", "random")
    assert "reality" not in result.stdout
    assert (tmp_path / "d.mp4").exists()
    refused = call("video", bundle, "--file", tmp_path / "d.mp4", "--what", "dreams")
    assert refused.exit_code == 2
    assert "'dreams' is not one of 'dream', 'real', 'both'" in refused.output


def test_video_of_a_planner(bundle: Path, tmp_path: Path) -> None:
    planner = "planner:shooting,candidates=4,horizon=2"
    out = tmp_path / "planned.gif"
    result = call("video", bundle, "--file", out, "--agent", planner, "--steps", "2", "--size", "64")
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == ["dream", "reality"]


def test_video_of_many_dreams(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "many.gif"
    result = call("video", bundle, "--file", out, "--dreams", "3", "--steps", "2", "--size", "64")
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:3]] == ["dream 0", "dream 1", "dream 2"]
    result = call("video", bundle, "--file", out, "--temperatures", "1,0.1", "--steps", "2", "--size", "64")
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == ["τ 0.1", "τ 1"]
    with pytest.raises(ConfigurationError, match="films one real episode"):
        call("video", bundle, "--file", out, "--what", "real", "--dreams", "3")
    with pytest.raises(ConfigurationError, match="numbers with commas"):
        call("video", bundle, "--file", out, "--temperatures", "warm")
