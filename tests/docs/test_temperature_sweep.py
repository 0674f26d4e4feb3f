"""The sweep of docs/temperature_sweep.py is what the list of figures reads."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

from dreamenv.workflows.published import read_figures
from tests.docs.site import DOCS


@pytest.mark.slow
def test_every_temperature_becomes_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "temperature.json"
    monkeypatch.setattr(sys, "argv", ["temperature_sweep.py", "DreamDoom-v0", "--dreams", "2", "--json", str(file)])
    runpy.run_path(str(DOCS / "temperature_sweep.py"), run_name="__main__")
    entry = read_figures()["doom-temperature"]
    found = entry.figures({"temperature.json": json.loads(file.read_text(encoding="utf-8"))})
    assert found.keys() == entry.published().keys()
    assert {figure.episodes for figure in found.values()} == {2}
