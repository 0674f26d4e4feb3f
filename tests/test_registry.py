from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamenv import registry
from dreamenv.errors import RegistryError, UnknownDreamError
from dreamenv.types import RealEnvSpec, recorded_fields

ENTRY: dict[str, Any] = {
    "latent_id": "LatentTest-v0",
    "checkpoint": "bundle",
    "real": {"id": "Pendulum-v1"},
    "dream": {"max_episode_steps": 20},
}


def write(folder: Path, change: Callable[[dict[str, Any]], Any] | None = None) -> Path:
    raw: dict[str, Any] = yaml.safe_load(yaml.safe_dump({"format": 1, "environments": {"DreamTest-v0": ENTRY}}))
    if change is not None:
        change(raw)
    path = folder / "registry.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_a_small_file_is_filled_with_defaults(tmp_path: Path) -> None:
    entry = registry.read_registry(write(tmp_path))["DreamTest-v0"]
    assert entry.checkpoint == (tmp_path / "bundle").resolve()
    assert entry.section.real.spec() == RealEnvSpec("Pendulum-v1")
    assert entry.section.dream.temperature == 1.0
    assert entry.section.dream.start == "initial"


def test_the_shipped_file() -> None:
    shipped = registry.read_registry(registry.shipped_registry_path())
    assert set(shipped) == {"DreamCarRacing-v0", "DreamCarRacing-v1", "DreamDoom-v0", "DreamDoom-v1"}
    doom = shipped["DreamDoom-v0"].section
    assert doom.dream.temperature == 1.0
    assert doom.real.drop_terminal_observation
    for entry in shipped.values():
        real = entry.section.real
        assert real.max_episode_steps == entry.section.dream.max_episode_steps * real.action_repeat


def test_what_players_need_is_in_the_shipped_file() -> None:
    for name, rate in (("DreamCarRacing-v0", 12), ("DreamCarRacing-v1", 12), ("DreamDoom-v0", 9), ("DreamDoom-v1", 9)):
        real = registry.find(name).section.real.spec()
        assert real.steps_per_second == rate
        assert {"LEFT", "RIGHT"} <= real.controls.keys()


def test_fields_that_an_older_file_lacks_are_those_of_the_entry() -> None:
    doom = registry.find("DreamDoom-v0").section.real.spec()
    older = recorded_fields(doom.to_json()) | {"action_repeat": 2}
    assert registry.real_env_spec(older) == dataclasses.replace(doom, action_repeat=2)
    # A file that has the fields keeps its own, also where they are empty
    newer = dataclasses.replace(doom, controls={}, frames_per_second=9.0)
    assert registry.real_env_spec(newer.to_json()) == newer
    unlisted = RealEnvSpec("Unlisted-v0", action_repeat=3)
    assert registry.real_env_spec(recorded_fields(unlisted.to_json())) == unlisted


def in_entry(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        place = raw["environments"]["DreamTest-v0"]
        for part in path[:-1]:
            place = place[part]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            in_entry("checkpont", value="x"),
            r"environments\.DreamTest-v0\.checkpont: unknown key\. Did you mean checkpo",
        ),
        (
            in_entry("real", "action_repeats", value=4),
            r"real\.action_repeats: unknown key\. Did you mean action_repeat",
        ),
        (in_entry("real", "action_repeat", value="four"), r"real\.action_repeat: found 'four'; .*integer"),
        (in_entry("real", "action_repeat", value=0), r"real\.action_repeat: found 0; .*greater than or equal to 1"),
        (in_entry("real", "crop", value=[0, 84]), r"real\.crop"),
        (in_entry("dream", "temperature", value=-1), r"dream\.temperature: found -1; .*greater than or equal to 0"),
        (in_entry("dream", "start", value="middle"), r"dream\.start: found 'middle'; .*'first', 'initial' or 'replay'"),
        (in_entry("real", "image_size", value=0), r"real\.image_size: found 0; .*greater than or equal to 1"),
        (in_entry("real", "frames_per_second", value=0), r"real\.frames_per_second: found 0; .*greater than 0"),
        (in_entry("real", "controls", value={"LEFTT": {"label": "left", "action": 1}}), r"controls\.LEFTT.*'LEFT'"),
        (
            in_entry("real", "controls", value={"LEFT": {"lable": "left", "label": "left", "action": 1}}),
            r"real\.controls\.LEFT\.lable: unknown key\. Did you mean label",
        ),
        (
            in_entry("real", "controls", value={"LEFT": {"label": "", "action": 1}}),
            r"controls\.LEFT\.label: .*at least 1",
        ),
        (
            in_entry("explore", value=[{"policy": "uniform", "wieght": 1}]),
            r"explore\.0\.wieght: unknown key\. Did you mean weight",
        ),
        (in_entry("latent_id", value=None), r"latent_id: .*required"),
        (in_entry("explore", value={"policy": "uniform"}), r"explore: found dict; .*array"),
        (in_entry("dream", "temperature", value=float("inf")), r"dream\.temperature: .*finite"),
        (in_entry("latent_id", value="DreamTest-v0"), "the latent twin of DreamTest-v0 and the dream DreamTest-v0"),
        (in_entry("latent_id", value="Pendulum-v1"), "Pendulum-v1 is the latent twin of .* and its real environment"),
        (
            lambda raw: raw["environments"].update(Other=raw["environments"]["DreamTest-v0"]),
            "LatentTest-v0 is the latent twin of Other and the latent twin of DreamTest-v0; give one another id",
        ),
        (lambda raw: raw.update(format=2), r"format: found 2; .*1"),
        (lambda raw: raw.update(envs={}), r"envs: unknown key"),
    ],
)
def test_wrong_files_name_file_key_found_and_wanted(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = write(tmp_path, change)
    with pytest.raises(RegistryError, match=message) as caught:
        registry.read_registry(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["format: [1", "- 1\n- 2\n", "", "just words"])
def test_files_that_are_no_registry(tmp_path: Path, text: str) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RegistryError, match=r"registry\.yaml"):
        registry.read_registry(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"nowhere\.yaml: cannot be read"):
        registry.read_registry(tmp_path / "nowhere.yaml")


def test_no_yaml_tag_makes_an_object(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text("!!python/object/apply:os.system ['true']", encoding="utf-8")
    with pytest.raises(RegistryError, match="not YAML"):
        registry.read_registry(path)


def test_entries_of_the_environment_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DREAMENV_REGISTRY", str(write(tmp_path)))
    monkeypatch.setattr(registry, "_entries", None)
    assert registry.find("DreamTest-v0").id == "DreamTest-v0"
    assert registry.find("dreamenv:LatentTest-v0").id == "DreamTest-v0"
    assert "DreamDoom-v0" in registry.entries()


def test_what_the_environment_variable_names_in_vain_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    write(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path))
    gone = tmp_path / "deleted" / "registry.yaml"
    monkeypatch.setenv("DREAMENV_REGISTRY", os.pathsep.join([str(gone), "~/home/registry.yaml"]))
    monkeypatch.setattr(registry, "_entries", None)
    monkeypatch.setattr(registry, "_unread", {})
    with pytest.warns(UserWarning, match=r"left out: .*deleted.*cannot be read"):
        known = registry.entries()
    assert {"DreamDoom-v0", "DreamTest-v0"} <= known.keys()
    with pytest.raises(UnknownDreamError, match=r"no dream is called 'DreamRun-v0'.*deleted.*cannot be read"):
        registry.find("DreamRun-v0")


def test_misspelt_ids() -> None:
    with pytest.raises(UnknownDreamError) as caught:
        registry.find("LatentDooom-v0")
    assert str(caught.value).startswith("no dream is called 'LatentDooom-v0'. Did you mean LatentDoom-v0")
    with pytest.raises(UnknownDreamError, match=r"'Pendulum-v1' is a real .*`dreamenv train --real Pendulum-v1 --out"):
        registry.find("Pendulum-v1")
    with pytest.raises(UnknownDreamError, match="Known: DreamCarRacing-v0"):
        registry.find("xyz")
