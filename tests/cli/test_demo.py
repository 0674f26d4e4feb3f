"""`dreamenv demo`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.command_line import call


def test_the_demonstration_is_told_by_its_figures(bundle: Path, tmp_path: Path) -> None:
    sizes = ("--population", "4", "--rollouts", "2", "--horizon", "3", "--episodes", "2", "--video-steps", "2")
    command = ("demo", bundle, "--out", tmp_path / "demo", "--minutes", "0.001", *sizes, "--workers", "0")
    result = call(*command, "--json", "-")
    figures = json.loads(result.stdout)
    assert figures["dream"] == str(bundle)
    assert figures["scores"]["agent"]["episodes"] == figures["scores"]["random"]["episodes"] == 2
    assert (tmp_path / "demo" / "demo.mp4").stat().st_size > 0
    assert f"report: {tmp_path / 'demo' / 'report.html'}" in result.stderr
    # The same command again finds every stage finished
    again = json.loads(call(*command, "--json", "-").stdout)
    assert again == figures
