"""The README's scores are those that the shipped bundles carry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("DreamCarRacing-v0", "DreamDoom-v0")


@pytest.mark.parametrize("name", SHIPPED)
def test_scores_and_real_frames_are_the_bundles_own(name: str) -> None:
    provenance = json.loads((ROOT / "dreamenv/pretrained" / name / "config.json").read_text(encoding="utf-8"))[
        "provenance"
    ]
    score, baseline = provenance["score"], provenance["baseline"]
    assert score["episodes"] >= 100
    assert baseline["episodes"] >= 100
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    card = (ROOT / "dreamenv/pretrained" / name / "README.md").read_text(encoding="utf-8")
    assert f"{score['mean']:.0f} ± {score['std']:.0f}" in readme
    assert f"{baseline['mean']:.0f} ± {baseline['std']:.0f}" in readme
    assert f"{score['real_frames']:,}" in readme
    assert f"{score['mean']:.1f} | {score['std']:.1f}" in card
    assert f"{score['real_frames']:,}" in card


@pytest.mark.parametrize("name", SHIPPED)
def test_pictures_are_there(name: str) -> None:
    folder = ROOT / "docs/pictures" / ("doom" if "Doom" in name else "car")
    for picture in ("reconstructions.png", "open_loop.png"):
        assert (folder / picture).stat().st_size > 10_000
