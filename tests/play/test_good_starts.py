"""Starts from which one gets somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dreamenv
from dreamenv.agents.controller import LinearController
from dreamenv.agents.saved import save_agent
from dreamenv.bundle import StartStates
from dreamenv.memory.base import Prediction
from dreamenv.play.good_starts import with_good_starts
from dreamenv.play.opening import open_dream
from dreamenv.world_model import WorldModel
from tests.fakes import CountingMemory, FakeState, fake_world_model, trained_like_world_model, write_registry
from tests.play.openings import CHOICE, CountingAgent


class RoadMemory(CountingMemory):
    """Rewards 1 a step where the first latent began at an even ten, and nothing elsewhere."""

    def imagine(self, state: Any, action: Tensor, *, noise: Any, temperature: float = 1.0) -> tuple[Any, Prediction]:
        after, said = super().imagine(state, torch.zeros_like(action), noise=noise, temperature=temperature)
        on_road = (state.latent[:, 0] / 10.0).floor() % 2 == 0
        return FakeState(*after), Prediction(on_road.float(), said.termination_probability, said.terminated)


@pytest.mark.parametrize("settled", [False, True])
def test_starts_without_reward_are_left_out(settled: bool) -> None:
    model = fake_world_model(RoadMemory(), action_space=CHOICE, image=True)
    if settled:
        first = model.starts.first
        blank = {"latent": first, "age": torch.zeros(5, 1), "drawn": torch.zeros(5, 1)}
        model = model.with_starts(StartStates(first + 500.0, settled=blank))
    agent = CountingAgent(model.observation_space("latent"), model.action_space)
    found = with_good_starts(model, agent, temperature=1.0)
    kept = found.starts.settled["latent"] if settled else found.starts.first
    assert kept[:, 0].tolist() == [0.0, 20.0, 40.0]
    assert found.start_count("initial") == 3
    assert found.memory is model.memory
    assert model.start_count("initial") == 5, "the model itself is unchanged"


def test_a_dream_is_opened_at_good_starts_if_an_agent_says_which(tmp_path: Path) -> None:
    dreamenv.register(write_registry(tmp_path, "DreamOpened-v0", trained_like_world_model()))
    bundle = tmp_path / "bundle"
    model = WorldModel.load(bundle)
    count = model.start_count("initial")
    assert open_dream(str(bundle)).model.start_count("initial") == count, "nobody drives here"
    space = model.observation_space()
    weights = np.random.default_rng(0).normal(size=(2, space.shape[0] + 1)).tolist()
    save_agent(LinearController(weights, space, model.action_space), bundle)
    assert 1 <= open_dream(str(bundle)).model.start_count("initial") < count
    assert open_dream(str(bundle), start="initial").model.start_count("initial") == count, "all, where asked for"
