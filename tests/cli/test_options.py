"""What the verbs share: presets, a dream's id, a run's settings."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest
import yaml

from dreamenv import registry
from dreamenv.cli.options import dream_id, preset, write_config, write_registry
from dreamenv.errors import ConfigurationError, UnknownDreamError
from dreamenv.registry import read_registry
from dreamenv.types import RealEnvSpec


def test_presets_are_found_by_either_name() -> None:
    section, spec = preset("DreamDoom-v0", None)
    assert section is not None
    assert spec == section.real.spec()
    assert preset("LatentDoom-v0", None) == preset("dreamenv:DreamDoom-v0", None) == (section, spec)
    assert preset(None, "VizdoomTakeCover-v1") == (section, spec)
    assert preset(None, "Pendulum-v1") == (None, RealEnvSpec("Pendulum-v1"))
    assert preset(None, "own_package:Own-v0") == (None, RealEnvSpec("own_package:Own-v0"))
    # ViZDoom's ids are registered by importing it, which nothing has done yet
    assert preset(None, "VizdoomBasic-v1") == (None, RealEnvSpec("VizdoomBasic-v1"))
    with pytest.raises(UnknownDreamError, match="Did you mean CartPole-v1"):
        preset(None, "CartPol-v1")
    with pytest.raises(ConfigurationError):
        preset(None, None)


@pytest.mark.parametrize(
    ("real", "dream"),
    [("Pendulum-v1", "DreamPendulum-v1"), ("own:Maze-v3", "DreamMaze-v3"), ("ALE/Pong", "DreamPong-v0")],
)
def test_dreams_are_named_after_their_environment(real: str, dream: str) -> None:
    assert dream_id(RealEnvSpec(real)) == dream


def test_the_registry_that_is_written_is_read(tmp_path: Path) -> None:
    spec = RealEnvSpec("CarRacing-v3", crop=(0, 84, 0, 96), action_repeat=4, max_episode_steps=1000, start_margin=50)
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
