from __future__ import annotations

import json
import os
import pickle
import sys
import zipfile
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from stable_baselines3 import DQN, PPO

from dreamenv.agents import load_agent
from dreamenv.errors import BundleError, ConfigurationError, MissingExtraError
from dreamenv.sb3 import ALGORITHMS, DreamVecEnv, algorithm, load_model
from dreamenv.sb3.models import algorithm_name, write_provenance
from tests.fakes import BOX, fake_world_model

CHOICES = spaces.Discrete(3)
SMALL = {"net_arch": [4]}
NO_SBX = pytest.mark.skipif(find_spec("sbx") is None, reason="`make test-integrations` has sbx")
NAMES = [pytest.param(name, marks=NO_SBX) if name.startswith("sbx") else name for name in ALGORITHMS]


def untrained(name: str, **kwargs: Any) -> Any:
    """A model of the algorithm with its first, random weights."""
    actions = CHOICES if name in ("dqn", "qrdqn") else BOX
    if len(ALGORITHMS[name].actions) == 1:  # the off-policy ones
        kwargs["buffer_size"] = 100
    policy = "MlpLstmPolicy" if name == "recurrent_ppo" else "MlpPolicy"
    env = DreamVecEnv(fake_world_model(action_space=actions), 2)
    return algorithm(name, actions)(policy, env, policy_kwargs=dict(SMALL), seed=1, device="cpu", **kwargs)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model = untrained(name)
    model.provenance = {"real_frames": 7}
    model.save(tmp_path / "model")
    seen = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    for path in (tmp_path / "model", str(tmp_path / "model.zip")):
        loaded: Any = load_agent(path, algo=name)
        assert type(loaded) is type(model)
        assert algorithm_name(loaded) == name
        assert loaded.observation_space == model.observation_space
        assert loaded.action_space == model.action_space
        assert loaded.provenance == {"real_frames": 7}
        np.testing.assert_array_equal(
            loaded.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0]
        )


@pytest.mark.parametrize(
    ("saved", "named", "expected"),
    [
        ("ppo", "sac", "Load it as ppo"),
        ("ppo", "a2c", "Load it as ppo"),
        ("ppo", "trpo", "Load it as ppo"),
        ("a2c", "ppo", "Load it as a2c"),
        ("trpo", "ppo", "Load it as trpo"),
        ("sac", "tqc", "Load it as sac"),
        ("tqc", "sac", "Load it as tqc"),
        ("dqn", "qrdqn", "Load it as dqn"),
        ("qrdqn", "dqn", "Load it as qrdqn"),
        ("td3", "sac", "Load it as ddpg or td3"),
    ],
)
def test_a_file_of_another_algorithm(saved: str, named: str, expected: str, tmp_path: Path) -> None:
    untrained(saved).save(tmp_path / "model")
    with pytest.raises(ConfigurationError, match=f"was not saved by {named}. {expected}"):
        load_model(tmp_path / "model.zip", named)


def test_weights_of_another_algorithm_with_the_same_settings(tmp_path: Path) -> None:
    untrained("ppo").save(tmp_path / "model")
    with pytest.raises(BundleError, match="RecurrentPPO cannot load it"):
        load_model(tmp_path / "model.zip", "recurrent_ppo")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_nothing_is_unpickled_of_a_file_that_is_refused(tmp_path: Path) -> None:
    untrained("ppo").save(tmp_path / "model")
    file, sprung = tmp_path / "trap.zip", tmp_path / "sprung"
    with zipfile.ZipFile(tmp_path / "model.zip") as source, zipfile.ZipFile(file, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "data":
                trap = {":type:": "function", ":serialized:": b64encode(pickle.dumps(Trap(sprung))).decode()}
                content = json.dumps(json.loads(content) | {"lr_schedule": trap}).encode()
            archive.writestr(name, content)
    with pytest.raises(ConfigurationError, match="was not saved by sac"):
        load_model(file, "sac")
    with pytest.raises(BundleError, match="only where its algorithm is named"):
        load_agent(file)
    assert not sprung.exists()
    load_model(file, "ppo")
    assert sprung.exists()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"nothing\.zip: cannot be read"):
        load_model(tmp_path / "nothing", "ppo")
    with pytest.raises(BundleError, match="cannot be read"):
        load_model(tmp_path, "ppo")
    untrained("ppo").save(tmp_path / "model")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "model.zip").read_bytes()[:500])
    with pytest.raises(BundleError, match="not a model of stable-baselines3"):
        load_model(tmp_path / "cut.zip", "ppo")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("letter.txt", "hello")
    with pytest.raises(BundleError, match="not a model of stable-baselines3"):
        load_model(tmp_path / "other.zip", "ppo")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("data", json.dumps({"clip_range": 0.2, "n_epochs": 3}))
    with pytest.raises(BundleError, match="plain text is that of no algorithm"):
        load_model(tmp_path / "empty.zip", "ppo")


def test_nothing_is_unpickled_of_a_plain_text_of_nobody(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    trap = {":type:": "x", ":serialized:": b64encode(pickle.dumps(Trap(sprung))).decode()}
    for name, content in {"foreign": {"note": trap}, "list": [trap], "settings": {"n_epochs": 1, "note": trap}}.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("data", json.dumps(content))
        with pytest.raises(BundleError, match=rf"{name}\.zip"):
            load_model(tmp_path / f"{name}.zip", "ppo")
    assert not sprung.exists()


def test_an_archive_that_grows_without_end_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b" " * (100 << 20))
    with pytest.raises(BundleError, match="its parts are 104,857,600 bytes"):
        load_model(tmp_path / "bomb.zip", "ppo")
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(BundleError, match=r"pipe\.zip: cannot be read"):
        load_model(tmp_path / "pipe.zip", "ppo")


def test_unknown_algorithms_and_actions_they_cannot_take() -> None:
    with pytest.raises(ConfigurationError, match="no algorithm is called 'pppo'. Did you mean ppo"):
        algorithm("pppo")
    with pytest.raises(ConfigurationError, match=r"dqn takes Discrete actions, these are Box.*: a2c, ddpg, ppo"):
        algorithm("dqn", BOX)
    with pytest.raises(ConfigurationError, match=r"sac takes Box actions, these are Discrete\(3\).*: a2c, dqn, ppo"):
        algorithm("sac", CHOICES)
    with pytest.raises(ConfigurationError, match=r"ppo takes Box or Discrete actions, these are .*: none"):
        algorithm("ppo", spaces.MultiBinary(3))
    assert algorithm("dqn", CHOICES) is DQN
    assert algorithm("ppo") is PPO


@pytest.mark.parametrize("name", NAMES)
def test_the_action_spaces_are_those_the_algorithm_itself_takes(name: str) -> None:
    for space in (BOX, CHOICES):
        env = DreamVecEnv(fake_world_model(action_space=space), 1)
        policy = "MlpLstmPolicy" if name == "recurrent_ppo" else "MlpPolicy"
        if isinstance(space, ALGORITHMS[name].actions):
            assert algorithm(name, space)(policy, env, device="cpu").action_space == space
        else:
            with pytest.raises(AssertionError, match="only supports"):
                algorithm(name)(policy, env, device="cpu")


def test_without_sb3_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(MissingExtraError, match=r"sb3-contrib is not installed.*dreamenv\[sb3\]"):
        algorithm("tqc")
    assert algorithm("ppo") is PPO


def test_without_sbx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sbx", None)
    with pytest.raises(MissingExtraError, match=r"sbx-rl is not installed.*dreamenv\[sbx\]"):
        algorithm("sbx_sac")


def test_a_model_that_plays_needs_no_room_for_replay(tmp_path: Path) -> None:
    untrained("sac").save(tmp_path / "model")
    loaded: Any = load_model(tmp_path / "model.zip", "sac")
    assert loaded.replay_buffer.buffer_size == 1


def test_writing_provenance_changes_nothing_else(tmp_path: Path) -> None:
    model = untrained("dqn")
    model.save(tmp_path / "model")
    write_provenance(tmp_path / "model.zip", {"real_frames": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["model.zip"]
    for loaded in (DQN.load(tmp_path / "model.zip"), load_model(tmp_path / "model", "dqn")):
        assert loaded.provenance == {"real_frames": 3}
        for mine, other in zip(loaded.policy.parameters(), model.policy.parameters(), strict=True):
            assert (mine == other).all()
    assert DQN.load(tmp_path / "model.zip").buffer_size == 100


def test_classes_of_others_have_no_name() -> None:
    class Own(PPO):
        pass

    model = Own(
        "MlpPolicy", DreamVecEnv(fake_world_model(action_space=BOX), 1), policy_kwargs=dict(SMALL), device="cpu"
    )
    assert algorithm_name(model) is None
    assert algorithm_name("ppo") is None
