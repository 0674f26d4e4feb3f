from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from safetensors.torch import save_file

from dreamenv import registry
from dreamenv.agents import LinearController, RandomAgent, load_agent, save_agent
from dreamenv.errors import BundleError, UnknownDreamError
from dreamenv.files import sha256_of
from tests.fakes import trained_like_world_model, write_registry

FEATURES = spaces.Box(-np.inf, np.inf, (4,), np.float32)
PEDALS = spaces.Box(np.array([-1.0, 0.0, 0.0], np.float32), np.ones(3, np.float32))


def controller(space: gym.Space[Any] = PEDALS, action_map: str | None = "throttle") -> LinearController:
    outputs = 2 if space is PEDALS else 3
    weights = np.random.default_rng(0).normal(size=(outputs, 5))
    provenance = {"real_frames": 17, "note": "τ 1.15"}
    return LinearController(
        weights, FEATURES, space, observation="latent", action_map=action_map, provenance=provenance
    )


@pytest.mark.parametrize(("space", "action_map"), [(PEDALS, "throttle"), (spaces.Discrete(3, start=1), None)])
def test_a_saved_agent_comes_back_as_it_was(tmp_path: Path, space: gym.Space[Any], action_map: str | None) -> None:
    saved = controller(space, action_map)
    file = save_agent(saved, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["agent.safetensors"]
    seen = np.random.default_rng(1).normal(size=(7, 4))
    for source in (tmp_path, str(tmp_path), file, str(file)):
        loaded = load_agent(source)
        assert isinstance(loaded, LinearController)
        assert loaded.provenance == saved.provenance
        assert loaded.observation == "latent"
        assert loaded.observation_space == FEATURES
        assert loaded.action_space == space
        assert loaded.action_map.kind == saved.action_map.kind
        np.testing.assert_array_equal(loaded.predict(seen)[0], saved.predict(seen)[0])


def test_a_registered_id_loads_its_bundles_agent_and_checks_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_agent(entry: dict[str, Any]) -> None:
        entry["sha256"]["agent.safetensors"] = sha256_of(save_agent(controller(), tmp_path / "bundle"))

    file = write_registry(tmp_path, "DreamTest-v0", trained_like_world_model(), change=with_agent)
    monkeypatch.setattr(registry, "_entries", registry.read_registry(file))
    assert load_agent("DreamTest-v0").provenance["real_frames"] == 17
    assert load_agent("LatentTest-v0").provenance["real_frames"] == 17
    save_agent(LinearController(np.zeros((2, 5)), FEATURES, PEDALS, action_map="throttle"), tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"agent\.safetensors: sha256 is .* registry\.yaml wants"):
        load_agent("DreamTest-v0")
    with pytest.raises(UnknownDreamError, match="Did you mean DreamTest-v0"):
        load_agent("DremTest-v0")


def test_missing_agents(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"agent\.safetensors: cannot be read"):
        load_agent(tmp_path)
    with pytest.raises(BundleError, match=r"other\.safetensors: cannot be read"):
        load_agent(tmp_path / "other.safetensors")
    with pytest.raises(UnknownDreamError, match="no such folder"):
        load_agent(tmp_path / "nowhere")


def test_truncated_file(tmp_path: Path) -> None:
    file = save_agent(controller(), tmp_path)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(BundleError, match="cut short"):
        load_agent(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "99"}, "format_version 99, this dreamenv reads agents up to 1"),
        ({"format_version": None}, "format_version missing"),
        ({"kind": "liner"}, "Did you mean linear"),
        ({"action_space": None}, "has no action_space"),
        ({"action_space": "{"}, "does not rebuild an agent of kind 'linear'"),
        ({"config": json.dumps({"hidden": 3})}, "does not rebuild.*hidden"),
        ({"observation": "pixels"}, "does not rebuild.*pixels"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, change: dict[str, str | None], message: str) -> None:
    from safetensors import safe_open

    file = save_agent(controller(), tmp_path)
    with safe_open(file, framework="pt") as opened:
        metadata = {**opened.metadata(), **change}
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    save_file(tensors, file, metadata={name: text for name, text in metadata.items() if text is not None})
    with pytest.raises(BundleError, match=message):
        load_agent(file)


def test_weights_that_do_not_fit_the_spaces(tmp_path: Path) -> None:
    file = save_agent(controller(), tmp_path)
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file({"weights": torch.zeros(2, 9)}, file, metadata=metadata)
    with pytest.raises(BundleError, match=r"shape \(2, 9\)"):
        load_agent(file)


def test_agents_that_could_not_be_loaded_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"'RandomAgent' cannot be saved; these can: .*linear"):
        save_agent(RandomAgent(FEATURES, PEDALS, generator=0), tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
