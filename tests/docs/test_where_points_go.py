from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.site import DOCS

SCRIPT = str(DOCS / "where_points_go.py")


def test_only_long_stretches_behind_the_first_reward_count() -> None:
    found = runpy.run_path(SCRIPT)["_in_stretches"]
    none, long, short = [True] * 9, [True] * 8, [True] * 7
    missing = np.array([*none, False, *short, False, *long, False, *none])
    expected = [*[False] * 9, False, *[False] * 7, False, *long, False, *none]
    assert found(missing).tolist() == expected
    assert not found(np.zeros(12, bool)).any()
    assert not found(np.ones(12, bool)).any(), "nothing was ever earned"


@pytest.mark.slow
def test_it_plays_validation_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "points.json"
    monkeypatch.setattr(sys, "argv", [SCRIPT, "DreamCarRacing-v0", "--episodes", "1", "--json", str(file)])
    runpy.run_path(SCRIPT, run_name="__main__")
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["return"] > 300
    assert 100 < found["actions"] <= 250
    lost = found["without_reward_on_road"] + found["without_reward_off_road"]
    assert lost < found["actions"] / 2
    assert found["reward_of_other_actions"] * (found["actions"] - lost) == pytest.approx(found["return"], rel=0.2)
