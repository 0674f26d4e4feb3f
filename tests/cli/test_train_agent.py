"""`dreamenv train-agent`: what is given, else the preset of the real environment, else the defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from dreamenv import registry
from dreamenv.agents import load_agent
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.errors import ConfigurationError, RegistryError
from dreamenv.registry import read_registry
from tests.command_line import call
from tests.fakes import trained_like_world_model, write_registry


def trained(model: Path | str, out: Path, *arguments: str) -> dict[str, Any]:
    """The settings that the command's agent was trained with."""
    result = call("train-agent", model, "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    agent = load_agent(out)
    assert isinstance(agent, ActorCriticAgent)
    return dict(agent.provenance["settings"])


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the registry says of the agent of Pendulum's dream, DreamOwn-v0; to be changed."""
    wanted = {"steps": 3, "horizon": 2, "batch_size": 4, "entropy": 0.25}

    def change(entry: dict[str, Any]) -> None:
        entry["train"] = {"loop": {"agent": wanted}}

    file = write_registry(tmp_path, "DreamOwn-v0", trained_like_world_model(), change=change)
    monkeypatch.setattr(registry, "_entries", read_registry(file))
    return wanted


def test_each_dream_of_a_real_environment_has_its_own_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {}
    for name, horizon in (("DreamOwn-v0", 2), ("DreamOwn-v1", 4)):
        agent = {"steps": 1, "horizon": horizon, "batch_size": 4}
        (tmp_path / name).mkdir()
        file = write_registry(
            tmp_path / name,
            name,
            trained_like_world_model(),
            change=lambda entry, agent=agent: entry.update(train={"loop": {"agent": agent}}),
        )
        known |= read_registry(file)
    monkeypatch.setattr(registry, "_entries", known)
    for model, horizon in (
        ("DreamOwn-v0", 2),
        ("DreamOwn-v1", 4),
        ("LatentOwn-v1", 4),
        (tmp_path / "DreamOwn-v1" / "bundle", 2),  # a folder: the first of its real environment
    ):
        assert trained(model, tmp_path / "agents" / Path(model).name)["horizon"] == horizon, model


def test_the_preset_is_that_of_the_real_environment(preset: dict[str, Any], tmp_path: Path) -> None:
    for model in ("DreamOwn-v0", tmp_path / "bundle"):
        settings = trained(model, tmp_path / "agents" / Path(model).name, "--horizon", "3", "--discount", "0.5")
        assert {key: settings[key] for key in preset} == preset | {"horizon": 3}
        assert settings["discount"] == 0.5
        assert settings["trace"] == ImaginationOptions().trace


def test_an_agent_learns_on_from_another_reward(preset: dict[str, Any], tmp_path: Path) -> None:
    trained("DreamOwn-v0", tmp_path / "first")
    words = ["--begin", tmp_path / "first", "--critic-first", "1", "--reward-squash", "3", "--learning-rate", "0.01"]
    words += ["--batch-size", "3"]
    words += ["--gradient-clip", "2", "--actor-average", "0.5"]
    settings = trained("DreamOwn-v0", tmp_path / "second", *map(str, words))
    wanted = {"batch_size": 3, "critic_first": 1, "reward_squash": 3.0, "learning_rate": 0.01}
    wanted |= {"gradient_clip": 2.0, "actor_average": 0.5}
    assert {key: settings[key] for key in wanted} == wanted
    assert not torch.equal(*(load_agent(tmp_path / name).tensors()["network.0.weight"] for name in ("first", "second")))
    assert trained("DreamOwn-v0", tmp_path / "clipped", "--reward-clip", "-1", "2")["reward_clip"] == [-1.0, 2.0]
    assert load_agent(tmp_path / "clipped").guide is None  # type: ignore[attr-defined]
    preset |= {"reward_squash": 5.0, "reward_clip": [-1.0, 2.0]}
    settings = trained("DreamOwn-v0", tmp_path / "third", "--reward-squash", "0", "--reward-clip", "0", "0")
    assert (settings["reward_squash"], settings["reward_clip"]) == (None, None)
    assert load_agent(tmp_path / "third").guide is not None  # type: ignore[attr-defined]
    del preset["reward_squash"], preset["reward_clip"]
    trained("DreamOwn-v0", tmp_path / "fourth", "--begin", str(tmp_path / "first"), "--critic-first", "3")
    same = (load_agent(tmp_path / name).tensors()["network.0.weight"] for name in ("first", "fourth"))
    assert torch.equal(*same), "no step was the actor's"


def test_the_agent_of_an_id_learns_on(tmp_path: Path) -> None:
    words = ("--steps", "1", "--batch-size", "2", "--horizon", "2", "--critic-first", "1")
    call("train-agent", "DreamDoom-v1", "--begin", "DreamDoom-v1", *words, "--out", str(tmp_path))
    learned, shipped = (load_agent(name).tensors()["network.0.weight"] for name in (tmp_path, "DreamDoom-v1"))
    torch.testing.assert_close(learned, shipped.to(learned.dtype))


def test_a_folder_takes_the_preset_of_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {}
    for name, recipe in (("DreamOwn-v0", "mdn_rnn"), ("DreamOwn-v1", "rssm")):
        (tmp_path / name).mkdir()
        section = {
            "recipe": recipe,
            "loop": {"agent": {"steps": 1, "batch_size": 4, "horizon": 2 + (recipe == "rssm")}},
        }
        model = trained_like_world_model()
        model.provenance["recipe"] = recipe
        file = write_registry(
            tmp_path / name, name, model, change=lambda entry, section=section: entry.update(train=section)
        )
        known |= read_registry(file)
    monkeypatch.setattr(registry, "_entries", known)
    for name, horizon in (("DreamOwn-v0", 2), ("DreamOwn-v1", 3)):
        assert trained(tmp_path / name / "bundle", tmp_path / "agents" / name)["horizon"] == horizon


def test_without_a_preset_the_defaults_hold(tmp_path: Path) -> None:
    trained_like_world_model().save(tmp_path / "bundle")
    settings = trained(tmp_path / "bundle", tmp_path / "agent", "--steps", "1", "--entropy", "0.01", "--horizon", "2")
    assert (settings["steps"], settings["entropy"], settings["batch_size"]) == (
        1,
        0.01,
        ImaginationOptions().batch_size,
    )
    with pytest.raises(ConfigurationError, match="discount must be in"):
        trained(tmp_path / "bundle", tmp_path / "other", "--discount", "1.5")


def test_an_unknown_option_of_the_preset_is_named(preset: dict[str, Any], tmp_path: Path) -> None:
    registry.find("DreamOwn-v0").section.train.loop["agent"]["entropi"] = 1.0
    with pytest.raises(
        RegistryError, match=r"environments.DreamOwn-v0.train.loop.agent.entropi: unknown option. Did you mean entropy"
    ):
        trained("DreamOwn-v0", tmp_path / "agent")
