"""What a saved model says of its real environment."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from dreamenv import registry
from dreamenv.errors import BundleError
from dreamenv.types import Control
from dreamenv.world_model import WorldModel
from tests.damage import edit_config
from tests.fakes import trained_like_world_model


def test_shipped_bundles_lack_what_players_need_and_get_it_from_the_registry() -> None:
    for entry in registry.entries().values():
        if entry.id not in ("DreamCarRacing-v0", "DreamDoom-v0"):
            continue
        stored = json.loads((entry.checkpoint / "config.json").read_text(encoding="utf-8"))["real"]
        assert "controls" not in stored
        for source in (entry.id, entry.checkpoint):
            assert WorldModel.load(source).real == entry.section.real.spec()


def test_a_run_without_a_bundle_yet_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"config\.json"):
        WorldModel.load(tmp_path)
    (tmp_path / "episodes").mkdir()
    with pytest.raises(BundleError, match=r"holds episodes and no bundle yet\. `dreamenv train --out"):
        WorldModel.load(tmp_path)
    trained_like_world_model().save(tmp_path / "bundle")
    assert WorldModel.load(tmp_path).real.id


def test_what_players_need_is_kept_in_a_bundle(tmp_path: Path) -> None:
    model = trained_like_world_model()
    model.real = dataclasses.replace(
        model.real, frames_per_second=9.0, controls={"LEFT": Control("left", (-1.0, 0.0))}, skip_unseen_frames=None
    )
    model.save(tmp_path)
    assert WorldModel.load(tmp_path).real == model.real


@pytest.mark.parametrize("real", [{}, {"id": "Own-v0", "controls": {"LEFT": {}}}, {"id": "Own-v0", "colour": 1}])
def test_a_damaged_real_environment_is_named(tmp_path: Path, real: dict[str, Any]) -> None:
    trained_like_world_model().save(tmp_path)
    edit_config(tmp_path, lambda config: config.update(real=real))
    with pytest.raises(BundleError, match=r"config\.json: real: not a real environment"):
        WorldModel.load(tmp_path)
