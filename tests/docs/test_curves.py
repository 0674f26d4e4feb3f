"""Plots of scores against real frames show the figures that are published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.site import extension

curves = extension("curves")


def figures_of(folder: Path, **parts: dict[str, float]) -> Path:
    """A list with the published entry `own`."""
    section = {"what": "a score", "rerun": False, "reason": "others", "main": next(iter(parts))}
    (folder / "list.yaml").write_text(json.dumps({"format": 1, "figures": {"own": section}}), encoding="utf-8")
    (folder / "stored" / "own").mkdir(parents=True)
    content = {"origin": "here", "figures": {name.replace("_", "-"): numbers for name, numbers in parts.items()}}
    (folder / "stored" / "own" / "figures.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_run_of_the_loop_is_its_rounds_and_what_it_ended_with() -> None:
    curve = curves.read_curve("seed 0: dreamer-cartpole-swingup")
    assert curve.label == "seed 0"
    frames = [point.real_frames for point in curve.points]
    assert len(frames) == 5
    assert frames == sorted(frames)
    assert curve.final.episodes == 100


def test_points_are_drawn_at_their_frames(tmp_path: Path) -> None:
    points = {"at_200": {"mean": 5.0, "real_frames": 200}, "at_100": {"mean": 3.0, "real_frames": 100}}
    listed = figures_of(tmp_path, **points, other={"mean": 9.0, "real_frames": 50, "lowest": 8.0, "highest": 9.5})
    every, one = (curves.read_curve(line, listed) for line in ("a: b: own", "c: own.other"))
    assert every.label == "a: b"
    assert every.final is None
    (axes,) = curves.curves_figure([every, one]).axes
    assert [line.get_xydata().tolist() for line in axes.get_lines()] == [[[100, 3], [200, 5]], [[50, 9]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a: b", "c"]
    assert axes.collections[-1].get_segments()[0].tolist() == [[50, 8], [50, 9.5]]


@pytest.mark.parametrize("line", ["own", ": own", "a: its", "a: own.its", "a: own"])
def test_a_line_that_names_nothing_to_draw_is_named(tmp_path: Path, line: str) -> None:
    listed = figures_of(tmp_path, at_1={"mean": 1.0})
    with pytest.raises(LookupError, match=line):
        curves.read_curve(line, listed)
