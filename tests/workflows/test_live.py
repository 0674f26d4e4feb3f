"""Agents that learn while their model does, as they are at a moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamenv.agents.options import ImaginationOptions
from dreamenv.workflows.live import LiveActorCritic
from tests.fakes import NoisyMemory, fake_world_model


@pytest.mark.parametrize("greedy", [True, False])
def test_a_policy_is_sampled_unless_it_plays_greedily(greedy: bool, tmp_path: Path) -> None:
    model = fake_world_model(NoisyMemory())
    options = ImaginationOptions(horizon=3, width=8)
    player = LiveActorCritic(model, options, seed=0, checkpoint=tmp_path / "none").as_it_is()
    features = np.zeros(model.observation_space("features").shape, np.float32)
    played = set()
    for seed in range(20):
        actor = player.actor(model, np.random.default_rng(seed), greedy=greedy)
        assert actor.name == ("agent" if greedy else "agent, sampled")
        played |= {int(actor.act(features))}
    assert len(played) == 1 if greedy else len(played) > 1
