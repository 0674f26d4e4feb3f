"""What a saved model says of its real environment."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from gymnasium import spaces

from dreamenv import registry
from dreamenv.bundle import resolve_bundle
from dreamenv.errors import BundleError
from dreamenv.memory.tabular import TabularMemory
from dreamenv.play.opening import open_dream
from dreamenv.sb3 import DreamVecEnv
from dreamenv.testing import check_memory
from dreamenv.types import Control
from dreamenv.vision.identity import IdentityVision
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


def test_an_id_goes_before_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained_like_world_model().save(tmp_path / "DreamDoom-v0")
    shipped = registry.find("DreamDoom-v0").checkpoint
    for name in ("DreamDoom-v0", "dreamenv:DreamDoom-v0", "LatentDoom-v0"):
        assert resolve_bundle(name)[0] == shipped
        assert resolve_bundle(name)[1], "sums are checked"
    assert resolve_bundle("./DreamDoom-v0") == (Path("DreamDoom-v0"), {})
    assert resolve_bundle(Path("DreamDoom-v0")) == (Path("DreamDoom-v0"), {})
    assert DreamVecEnv("DreamDoom-v0").env.world_model.memory.config()["latent_size"] == 64
    assert DreamVecEnv("./DreamDoom-v0").env.world_model.memory.config()["latent_size"] == 4
    assert open_dream("DreamDoom-v0", agent="random").id == "DreamDoom-v0"


class Louder(TabularMemory):
    """A subclass under its parent's kind."""


class Nameless(IdentityVision):
    def config(self) -> dict[str, Any]:
        return super().config() | {"kind": "nameless"}


def test_a_kind_that_would_be_read_as_another_is_not_saved(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    model.memory = Louder(4, spaces.Discrete(2))
    with pytest.raises(BundleError, match="'tabular', which is TabularMemory, and the bundle would be read as that"):
        model.save(tmp_path)
    with pytest.raises(AssertionError, match="'tabular', which is TabularMemory: a bundle would be read as that"):
        check_memory(model.memory.eval(), spaces.Discrete(2))
    model = trained_like_world_model(image=False)
    model.vision = Nameless(4)
    with pytest.raises(BundleError, match=r"nothing is registered as.*register_vision\('nameless', Nameless\)"):
        model.save(tmp_path)
    assert not list(tmp_path.iterdir())
