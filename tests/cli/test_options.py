"""What the verbs share: presets, a dream's id, a run's settings."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import get_args

import gymnasium as gym
import pytest
import yaml

from dreamenv import registry
from dreamenv.agents.action_map import ACTION_MAPS
from dreamenv.agents.optimisers import OPTIMISERS
from dreamenv.agents.options import GRADIENTS
from dreamenv.cli import options
from dreamenv.cli.options import dream_id, preset, write_config, write_registry
from dreamenv.errors import ConfigurationError, UnknownDreamError
from dreamenv.figures.clips import VIEWS
from dreamenv.registry import read_registry
from dreamenv.types import RealEnvSpec
from tests.command_line import call


def test_presets_are_found_by_either_name() -> None:
    section, spec = preset("DreamDoom-v0", None)
    assert section is not None
    assert spec == section.real.spec()
    assert preset("LatentDoom-v0", None) == preset("dreamenv:DreamDoom-v0", None) == (section, spec)
    assert preset(None, "VizdoomTakeCover-v1") == (section, spec)
    assert preset(None, "Pendulum-v1") == (None, RealEnvSpec("Pendulum-v1"))
    assert preset(None, "own_package:Own-v0") == (None, RealEnvSpec("own_package:Own-v0"))
    with pytest.raises(UnknownDreamError, match="Did you mean CartPole-v1"):
        preset(None, "CartPol-v1")
    with pytest.raises(ConfigurationError):
        preset(None, None)


def test_ids_of_vizdoom_are_known_before_anything_has_imported_it() -> None:
    pytest.importorskip("vizdoom")
    expected = RealEnvSpec("VizdoomBasic-v1", module="vizdoom.gymnasium_wrapper")
    assert preset(None, "VizdoomBasic-v1") == preset(None, "VizdoomBasic-v1") == (None, expected)


def test_modules_of_the_registry_are_asked_for_ids_that_gymnasium_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "own_games.py"
    module.write_text("import gymnasium\ngymnasium.register('OwnGame-v0', 'own_games:Game')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    doom = registry.find("DreamDoom-v0")
    real = doom.section.real.model_copy(update={"module": "own_games"})
    entry = dataclasses.replace(doom, section=doom.section.model_copy(update={"real": real}))
    monkeypatch.setattr(registry, "_entries", {"DreamDoom-v0": entry})
    try:
        assert preset(None, "OwnGame-v0") == (None, RealEnvSpec("OwnGame-v0", module="own_games"))
    finally:
        gym.registry.pop("OwnGame-v0", None)
        sys.modules.pop("own_games", None)
    module.unlink()
    with pytest.raises(UnknownDreamError, match=r"Not searched, because not installed: own_games\."):
        preset(None, "OwnGame-v0")


@pytest.mark.parametrize(
    ("real", "dream"),
    [("Pendulum-v1", "DreamPendulum-v1"), ("own:Maze-v3", "DreamMaze-v3"), ("ALE/Pong", "DreamPong-v0")],
)
def test_dreams_are_named_after_their_environment(real: str, dream: str) -> None:
    assert dream_id(RealEnvSpec(real)) == dream


def test_the_registry_that_is_written_is_read(tmp_path: Path) -> None:
    spec = registry.find("DreamCarRacing-v0").section.real.spec()
    assert spec.crop is not None
    assert spec.controls
    before = set(registry.entries()), set(gym.registry)
    file, name = write_registry(tmp_path, spec, 250, 1.1)
    assert (set(registry.entries()), set(gym.registry)) == before  # registering is the user's
    entry = read_registry(file)[name]
    assert entry.section.real.spec() == spec
    assert entry.checkpoint == (tmp_path / "bundle").resolve()
    assert (entry.section.dream.max_episode_steps, entry.section.dream.temperature) == (250, 1.1)


def test_settings_of_stages_are_kept_beside_each_other(tmp_path: Path) -> None:
    write_config(tmp_path / "run", "collect", {"frames": 5})
    write_config(tmp_path / "run", "train", {"steps": 7})
    write_config(tmp_path / "run", "collect", {"frames": 6})
    content = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert content == {"collect": {"frames": 6}, "train": {"steps": 7}}
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_the_choices_of_the_command_line_are_those_of_the_library() -> None:
    assert set(get_args(options.Optimiser)) == set(OPTIMISERS)
    assert set(get_args(options.ActionMapKind)) == set(ACTION_MAPS)
    assert set(get_args(options.Gradient)) == set(GRADIENTS)
    assert set(get_args(options.View)) == set(VIEWS)


@pytest.mark.parametrize("verb", ["evolve", "train-agent"])
def test_agents_learn_on_the_device_that_is_named_and_on_no_other(verb: str, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="device 'cuda:99' cannot be used"):
        call(verb, bundle, "--out", tmp_path / "agent", "--device", "cuda:99")
    assert not (tmp_path / "agent").exists()
