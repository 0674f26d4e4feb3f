"""Sitting down in a dream."""

from __future__ import annotations

from pathlib import Path

import pytest

import dreamenv
from dreamenv import registry
from dreamenv.agents.controller import LinearController
from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.saved import save_agent
from dreamenv.errors import ConfigurationError, SpaceMismatchError, UnknownDreamError
from dreamenv.play.opening import open_dream
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE
from tests.fakes import BOX, trained_like_world_model, write_registry


@pytest.fixture
def registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle of DreamOpened-v0, which has no agent; other tests do not know it."""
    monkeypatch.setattr(registry, "_entries", dict(registry.entries()))
    dreamenv.register(write_registry(tmp_path, "DreamOpened-v0", trained_like_world_model()))
    return tmp_path / "bundle"


def controller(model: WorldModel) -> LinearController:
    space = model.observation_space()
    return LinearController([[0.0] * (space.shape[0] + 1)] * 2, space, model.action_space)


@pytest.mark.parametrize("name", ["DreamOpened-v0", "dreamenv:DreamOpened-v0", "LatentOpened-v0"])
def test_a_registered_dream_has_its_own_defaults(registered: Path, name: str) -> None:
    opening = open_dream(name)
    assert (opening.id, opening.temperature, opening.start) == ("DreamOpened-v0", 1.25, "replay")
    assert (opening.max_episode_steps, opening.agent_name) == (20, "random")
    assert opening.steps_per_second == 12  # CarRacing's 50 frames a second, four an action
    assert isinstance(opening.make_agent(0), RandomAgent)


def test_a_bundle_has_those_of_its_model(registered: Path) -> None:
    opening = open_dream(str(registered))
    assert (opening.id, opening.temperature, opening.start) == (str(registered), 1.1, "initial")


def test_the_shipped_agent_is_taken_unless_another_is_asked_for(registered: Path) -> None:
    save_agent(controller(WorldModel.load(registered)), registered)
    opening = open_dream("DreamOpened-v0", temperature=0.5, start="initial")
    assert (opening.agent_name, opening.temperature, opening.start) == ("shipped", 0.5, "initial")
    agents = opening.make_agent(0), opening.make_agent(1)
    assert isinstance(agents[0], LinearController)
    assert agents[0] is not agents[1]
    assert open_dream("DreamOpened-v0", agent="random").agent_name == "random"
    assert open_dream("DreamOpened-v0", agent=str(registered)).agent_name == str(registered)


def test_what_does_not_fit_is_said_at_once(registered: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownDreamError, match="DreamOpened-v0"):
        open_dream("DreamOpenend-v0")
    with pytest.raises(ConfigurationError, match="at least 0, got -0.1"):
        open_dream("DreamOpened-v0", temperature=-0.1)
    assert open_dream("DreamOpened-v0", temperature=0.0).temperature == 0.0
    with pytest.raises(ConfigurationError, match="start="):
        open_dream("DreamOpened-v0", start="middle")
    other = trained_like_world_model(action_space=CHOICE)
    file = save_agent(
        LinearController([[0.0] * (other.memory.feature_size + 1)] * 3, other.observation_space(), CHOICE),
        tmp_path / "a",
    )
    assert BOX != CHOICE
    with pytest.raises(SpaceMismatchError, match="action spaces differ"):
        open_dream("DreamOpened-v0", agent=str(file))
