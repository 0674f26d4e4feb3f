from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dreamenv
from dreamenv import registry
from dreamenv.bundle import StartStates
from dreamenv.bundle_config import space_from_json, space_to_json
from dreamenv.envs import DreamEnv
from dreamenv.errors import BundleError, ConfigurationError, UnknownDreamError
from dreamenv.tensor_files import read_header
from dreamenv.world_model import WorldModel
from tests.damage import edit_config, edit_tensors
from tests.fakes import (
    BOX,
    DISCRETE,
    CountingMemory,
    fake_world_model,
    trained_like_world_model,
    write_registry,
)

FILES = ["config.json", "model.safetensors", "starts.safetensors"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    trained_like_world_model().save(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.mark.parametrize("action_space", [BOX, DISCRETE])
@pytest.mark.parametrize("image", [True, False])
def test_what_is_saved_is_loaded(tmp_path: Path, action_space: gym.Space[Any], image: bool) -> None:
    saved = trained_like_world_model(action_space=action_space, image=image)
    hashes = saved.save(tmp_path)
    assert hashes == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in FILES}
    loaded = WorldModel.load(tmp_path)
    for name in ("real", "action_space", "max_episode_steps", "temperature", "provenance"):
        assert getattr(loaded, name) == getattr(saved, name), name
    for part in ("vision", "memory"):
        before, after = getattr(saved, part).state_dict(), getattr(loaded, part).state_dict()
        assert before.keys() == after.keys()
        for name in before:
            assert after[name].dtype == before[name].dtype
            torch.testing.assert_close(after[name], before[name], rtol=0, atol=0)
    assert loaded.starts.replay.keys() == saved.starts.replay.keys()
    torch.testing.assert_close(loaded.starts.first, saved.starts.first, rtol=0, atol=0)
    assert not loaded.memory.training
    assert loaded.save(tmp_path / "again") == hashes


def test_dreams_begin_behind_the_start_margin_where_it_is_known(tmp_path: Path) -> None:
    saved = trained_like_world_model()
    settled = {name: part[:3] + 1 for name, part in saved.starts.replay.items()}
    saved.starts = StartStates(saved.starts.first, saved.starts.replay, settled)
    saved.save(tmp_path)
    loaded = WorldModel.load(tmp_path)
    assert (loaded.start_count("initial"), loaded.start_count("replay")) == (3, 5)
    state = loaded.start(torch.tensor([2]), noise=torch.Generator())
    for name, part in state._asdict().items():
        torch.testing.assert_close(part[0], settled[name][2])


def test_a_loaded_model_dreams_as_the_one_that_was_saved_again(bundle: Path) -> None:
    first, second = DreamEnv(WorldModel.load(bundle)), DreamEnv(WorldModel.load(bundle))
    assert np.array_equal(first.reset(seed=1)[0], second.reset(seed=1)[0])
    for _ in range(30):
        action = np.array([0.3, 1.0], np.float32)
        ours, theirs = first.step(action), second.step(action)
        assert np.array_equal(ours[0], theirs[0])
        assert ours[1:] == theirs[1:]
        if ours[2]:
            first.reset()
            second.reset()


def test_saving_leaves_agent_and_card_and_no_parts(bundle: Path) -> None:
    (bundle / "README.md").write_text("card", encoding="utf-8")
    trained_like_world_model().save(bundle)
    assert sorted(file.name for file in bundle.iterdir()) == sorted([*FILES, "README.md"])


def test_others_may_read_a_bundle_as_they_may_any_other_file(bundle: Path) -> None:
    (bundle / "plain").touch()
    modes = {path.name: path.stat().st_mode for path in bundle.iterdir()}
    assert set(modes.values()) == {modes["plain"]}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: cannot be read"):
        WorldModel.load(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.9])
def test_a_file_cut_short_is_named(bundle: Path, name: str, kept: float) -> None:
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[: int(kept * len(data))])
    with pytest.raises(BundleError, match=rf"{name}: .*cut short"):
        WorldModel.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_does_not_pass_the_registrys_sha256(tmp_path: Path, name: str) -> None:
    dream = "DreamTestHash-v0"
    dreamenv.register(write_registry(tmp_path, dream, trained_like_world_model()))
    try:
        WorldModel.load(dream)
        file = tmp_path / "bundle" / name
        data = bytearray(file.read_bytes())
        data[-2] ^= 1
        file.write_bytes(data)
        with pytest.raises(BundleError, match=rf"{name}: sha256 is [0-9a-f]{{64}}, registry.yaml wants"):
            WorldModel.load(dream)
        with pytest.raises(BundleError, match="sha256"):
            gym.make(dream)
    finally:
        for registered in (dream, "LatentTestHash-v0"):
            del gym.registry[registered]
        del registry.entries()[dream]


@pytest.mark.parametrize("version", [1, 99, "2", None])
def test_other_formats_are_refused(bundle: Path, version: Any) -> None:
    edit_config(bundle, lambda config: config.update(format_version=version))
    with pytest.raises(BundleError, match=rf"config\.json: format_version {version!r}.*Upgrade"):
        WorldModel.load(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("memory"), "memory: missing key"),
        (lambda config: config["memory"].update(kind="mdn-rnn"), "memory.kind is 'mdn-rnn'. Did you mean mdn_rnn"),
        (lambda config: config["memory"].pop("kind"), "memory.kind is None"),
        (lambda config: config["vision"].update(width=3), "vision.width: unknown key"),
        (lambda config: config["memory"].update(hidden_size=9), "does not fit config.json: tensor .* has shape"),
        (lambda config: config["action_space"].update(kind="dict"), "action_space.kind is 'dict'"),
    ],
)
def test_wrong_configurations(bundle: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    edit_config(bundle, change)
    with pytest.raises(BundleError, match=message):
        WorldModel.load(bundle)


def test_a_configuration_that_is_no_object(bundle: Path) -> None:
    (bundle / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match="found list, expected an object"):
        WorldModel.load(bundle)


def test_a_missing_tensor_is_named(bundle: Path) -> None:
    lost = next(name for name in read_header(bundle / "model.safetensors").tensors if name.startswith("memory."))
    edit_tensors(bundle, "model.safetensors", lambda tensors: tensors.pop(lost))
    with pytest.raises(BundleError, match=re.escape(f"lacks tensor {lost}")):
        WorldModel.load(bundle)


def test_missing_initial_starts(bundle: Path) -> None:
    edit_tensors(bundle, "starts.safetensors", lambda tensors: tensors.pop("initial"))
    with pytest.raises(BundleError, match="no tensor 'initial'"):
        WorldModel.load(bundle)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("by_torch", [True, False])
def test_a_pickle_is_never_loaded(bundle: Path, tmp_path: Path, name: str, by_torch: bool) -> None:
    trap = Trap(tmp_path / "sprung")
    if by_torch:
        torch.save(trap, bundle / name)
    else:
        (bundle / name).write_bytes(pickle.dumps(trap))
    with pytest.raises(BundleError, match=name):
        WorldModel.load(bundle)
    assert not trap.file.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(UnknownDreamError, match="no such folder"):
            WorldModel.load(path)


def test_observation_spaces() -> None:
    model = trained_like_world_model()
    assert model.observation_space("features").shape == (12,)
    assert model.observation_space("latent").shape == (4,)
    assert model.observation_space("pixels").shape == (64, 64, 3)
    assert np.isfinite(model.observation_space("features").low).all()
    with pytest.raises(ConfigurationError, match="Did you mean latent"):
        model.observation_space("latents")
    with pytest.raises(ConfigurationError, match="vector observations"):
        fake_world_model().observation_space("pixels")


def test_vision_and_memory_must_agree() -> None:
    model = trained_like_world_model()
    with pytest.raises(ConfigurationError, match="decodes latents of 4; memory takes embeddings of 3"):
        WorldModel(model.vision, CountingMemory(3), model.real, model.action_space, model.starts, max_episode_steps=1)


@pytest.mark.parametrize("space", [BOX, DISCRETE, gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)])
def test_spaces_survive_json(space: gym.Space[Any]) -> None:
    assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_other_spaces_cannot_be_saved() -> None:
    with pytest.raises(ConfigurationError, match="only Discrete and Box"):
        space_to_json(gym.spaces.MultiBinary(2))


def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path: Path) -> None:
    saved = trained_like_world_model()  # its replay states share memory with the first ones
    saved.save(tmp_path)
    assert WorldModel.load(tmp_path).fingerprint() == saved.fingerprint()


def test_other_start_states_leave_the_model_and_its_own_alone() -> None:
    model = fake_world_model()
    other = model.with_starts(StartStates(torch.ones(2, 3)))
    assert (other.start_count("initial"), model.start_count("initial")) == (2, 5)
    assert other.memory is model.memory
    assert other.vision is model.vision
    assert (other.real, other.max_episode_steps, other.temperature) == (model.real, 7, model.temperature)
    with pytest.raises(ConfigurationError, match="holds no replay start states"):
        other.start_count("replay")


def test_an_agent_knows_its_model_by_weights_alone() -> None:
    """Not by their precision or by start states."""
    model, like = trained_like_world_model(), trained_like_world_model()
    for part in (like.vision, like.memory):
        part.half().float()
    like = like.with_starts(StartStates(like.starts.first[:1]))
    assert like.fingerprint() != model.fingerprint()
    assert like.weights_digest() == model.weights_digest()
    for part in (like.vision, like.memory):
        before = like.weights_digest()
        with torch.no_grad():
            next(part.parameters()).add_(0.5)
        assert like.weights_digest() != before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0, got -1.0"),
        ({"temperature": float("inf")}, "temperature must be"),
        ({"max_episode_steps": 0}, "max_episode_steps must be an integer of at least 1, got 0"),
        ({"max_episode_steps": 2.5}, "max_episode_steps must be an integer of at least 1, got 2.5"),
    ],
)
def test_a_model_that_no_bundle_could_hold_is_not_made(change: dict[str, Any], told: str) -> None:
    parts, limits = fake_world_model(), {"max_episode_steps": 7, **change}
    with pytest.raises(ConfigurationError, match=told):
        WorldModel(parts.vision, parts.memory, parts.real, parts.action_space, parts.starts, **limits)
