"""Ledgers, tables, lists and agents that were damaged are refused by name; YAML cannot grow; nothing hangs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from dreamenv.agents.actor_critic import Actor
from dreamenv.agents.evolution_state import EvolutionState, Generation
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.agents.saved import save_agent
from dreamenv.errors import BundleError, NonFiniteError, RegistryError
from dreamenv.files import parse_json, read_bytes, read_yaml
from dreamenv.registry import read_registry
from dreamenv.training.checkpoint import load_tensors, save_tensors
from dreamenv.training.ledger import read_ledger
from dreamenv.workflows.loop import read_rounds
from tests.damage import edit_sealed, flip

FEATURES = gym.spaces.Box(-1, 1, (4,), np.float32)
PEDALS = gym.spaces.Box(-1, 1, (2,), np.float32)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return save_agent(ActorCriticAgent(Actor(4, PEDALS, width=8), FEATURES, PEDALS), tmp_path)


def refused(file: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        load_agent(file)


def test_a_flipped_bit_in_an_agent_is_noticed(agent: Path) -> None:
    flip(agent, -3)
    refused(agent, r"agent\.safetensors: its content has sha256")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_agent_whose_weights_are_not_finite(agent: Path, value: float) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["network.6.bias"][0] = value

    edit_sealed(agent, tensors=change)
    refused(agent, "'network.6.bias' holds numbers that are not finite")


def test_an_agent_whose_actions_are_not_finite_says_so(agent: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["network.4.bias"].fill_(1e3)
        tensors["network.6.weight"][:, 0::2], tensors["network.6.weight"][:, 1::2] = 3e38, -3e38

    edit_sealed(agent, tensors=change)
    with pytest.raises(NonFiniteError, match="action is not finite"):
        load_agent(agent).predict(np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("action_space", "[]", "action_space: found list"),
        ("observation_space", "null", "observation_space: found None"),
        (
            "observation_space",
            '{"kind": "box", "low": [0], "high": [1], "dtype": "float99"}',
            "observation_space.dtype",
        ),
        ("provenance", "[" * 50_000, "provenance: not JSON"),
        ("config", '{"width": 1000000000}', "numbers are asked for"),
        ("config", '{"width": "8"}', "does not rebuild"),
        ("config", '{"colour": 1}', "does not rebuild"),
        ("observation", "smell", "observation: found 'smell'"),
        ("colour", "red", "colour: unknown key"),
    ],
)
def test_metadata_of_an_agent_that_does_not_fit(agent: Path, name: str, text: str, message: str) -> None:
    edit_sealed(agent, metadata=lambda metadata: metadata.update({name: text}))
    refused(agent, rf"agent\.safetensors: .*{message}")


def test_the_same_agent_gives_the_same_bytes(agent: Path, tmp_path: Path) -> None:
    again = {save_agent(load_agent(agent), tmp_path / str(number)).read_bytes() for number in range(5)}
    assert again == {agent.read_bytes()}


@pytest.mark.parametrize("place", [-1, 20, 200])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path, place: int) -> None:
    file = tmp_path / "checkpoint.safetensors"
    save_tensors(file, {"model.weight": torch.arange(32.0)}, {"step": 5})
    assert load_tensors(file)[1] == {"step": 5}
    flip(file, place, 0)
    with pytest.raises(BundleError, match=r"checkpoint\.safetensors: .*delete it to start this stage anew"):
        load_tensors(file)


def test_a_checkpoint_of_evolution_that_does_not_fit(tmp_path: Path) -> None:
    EvolutionState({}, [np.zeros(4)], [Generation(1, 0.0, 0.0, 0.0, 0.1)], precision="float32").save(tmp_path)
    file = tmp_path / "evolution.safetensors"

    def drop(metadata: dict[str, str]) -> None:
        record = json.loads(metadata["record"])
        del record["history"][0]["index"]
        metadata["record"] = json.dumps(record)

    edit_sealed(file, metadata=drop)
    with pytest.raises(BundleError, match=r"evolution\.safetensors: history\.0\.index: missing key"):
        EvolutionState.resume(tmp_path, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"collect": "12"}', "collect: found '12'"),
        ('{"collect": 1.5}', "collect: found 1.5"),
        ('{"collect": -1}', "collect: found -1"),
        ('{"collect": true}', "collect: found True"),
        ('{"collect": 1, "collect": 2}', "'collect' appears twice"),
        ("[1]", "found list"),
        ("{", "not JSON"),
    ],
)
def test_a_damaged_ledger(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ledger.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=rf"ledger\.json: .*{message}"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("change", [{"number": 1}, {"real_mean": "x"}, {"held_out": 3}, {"real_frames": None}])
def test_a_damaged_table_of_rounds(tmp_path: Path, change: dict[str, Any]) -> None:
    names = ("collected_return", "dream_mean", "real_mean", "real_std")
    row = {"number": 0, "real_frames": 9, "held_out": {"loss": float("nan")}, **dict.fromkeys(names, 1.0)}
    file = tmp_path / "rounds.json"
    file.write_text(json.dumps([row]), encoding="utf-8")
    assert read_rounds(tmp_path)[0].real_frames == 9
    file.write_text(json.dumps([row | change]), encoding="utf-8")
    with pytest.raises(BundleError, match=rf"rounds\.json: .*{next(iter(change))}"):
        read_rounds(tmp_path)


def test_aliases_do_not_grow_without_end(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    file = tmp_path / "registry.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(RegistryError, match="its aliases stand for more than 100,000 values"):
        read_registry(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "what it is part of"),
        ("a: 1\na: 2\n", "'a' appears twice"),
        ("[" * 500 + "]" * 500, "nested more than|recursion"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("\x00", "not acceptable|not allowed"),
    ],
)
def test_yaml_that_nobody_wrote(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "file.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_yaml(tmp_path / "file.yaml")


def test_plain_aliases_are_read(tmp_path: Path) -> None:
    (tmp_path / "file.yaml").write_text("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n", encoding="utf-8")
    assert read_yaml(tmp_path / "file.yaml") == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="Not a regular file"):
            read_bytes(path)
    (tmp_path / "large").write_bytes(b"12345")
    with pytest.raises(ValueError, match="5 bytes, expected at most 4"):
        read_bytes(tmp_path / "large", most=4)
    assert read_bytes(tmp_path / "large", most=5) == b"12345"


def test_numbers_that_json_does_not_know_are_read_as_they_are_written() -> None:
    assert parse_json('{"best": Infinity}') == {"best": float("inf")}
