"""The transform, the heads, and what a value-equivalent memory refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError
from dreamenv.memory.value_equivalent.model import ValueEquivalent
from dreamenv.memory.value_equivalent.two_hot import TwoHotHead, squashed, unsquashed
from dreamenv.planners import MCTS
from dreamenv.types import RealEnvSpec
from dreamenv.vision.encoder import PictureEncoder, VectorEncoder
from dreamenv.world_model import WorldModel

ACTIONS = spaces.Discrete(3, start=1)


def test_the_transform_is_inverted() -> None:
    values = torch.tensor([-1500.0, -8.0, -0.25, 0.0, 0.5, 3.0, 475.0])
    torch.testing.assert_close(unsquashed(squashed(values)), values, rtol=1e-3, atol=1e-3)
    # √(8 + 1) - 1 + 0.001 · 8
    assert squashed(torch.tensor([8.0, -8.0])).tolist() == pytest.approx([2.008, -2.008])


def test_a_target_lies_between_its_neighbours() -> None:
    head = TwoHotHead(2, width=4, support=3)
    shares = head.two_hot(torch.tensor([8.0, 0.0, -1e9, 1e9]))
    assert shares[0].tolist() == pytest.approx([0, 0, 0, 0, 0, 0.992, 0.008], abs=1e-4)
    assert shares[1].tolist() == [0, 0, 0, 1, 0, 0, 0]
    assert shares[2].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert shares[3].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert head.largest == pytest.approx(15, abs=0.2)
    assert head(torch.randn(5, 2, generator=torch.Generator().manual_seed(0))).tolist() == pytest.approx(
        [0.0] * 5, abs=1e-6
    )


def test_a_head_learns_a_number_whose_spread_is_wide() -> None:
    head = TwoHotHead(1, width=16, support=30)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.02)
    features, wanted = torch.tensor([[0.0], [1.0]]), torch.tensor([-300.0, 2.0])
    for _ in range(300):
        optimiser.zero_grad()
        head.loss(features, wanted).mean().backward()
        optimiser.step()
    found = head(features).detach()
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.1)


def model(vision: VectorEncoder | PictureEncoder) -> WorldModel:
    memory = ValueEquivalent(vision.embedding_size, ACTIONS, 6, width=8, support=5)
    starts = StartStates(torch.zeros(2, vision.embedding_size))
    return WorldModel(vision, memory, RealEnvSpec("CartPole-v1"), ACTIONS, starts, max_episode_steps=5)


def test_pictures_are_refused() -> None:
    for vision in (VectorEncoder(4, 6, 8), PictureEncoder(6, 1)):
        with pytest.raises(ConfigurationError, match=r"dreams without pictures: its vision does not decode"):
            model(vision).observation_space("pixels")
        with pytest.raises(ConfigurationError, match="does not decode"):
            vision.decode(torch.zeros(1, 6))


def test_a_state_is_scaled_and_the_search_uses_prior_and_value() -> None:
    found = model(VectorEncoder(4, 6, 8))
    memory: Any = found.memory
    state = found.begin(np.eye(4, dtype=np.float32), noise=torch.Generator())
    assert state.hidden.amin(1).tolist() == [0] * 4
    assert state.hidden.amax(1).tolist() == pytest.approx([1] * 4)
    with torch.no_grad():
        memory.policy_head[-1].weight.zero_()
        memory.policy_head[-1].bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
        memory.value_head.network[-1].bias[8] = 50.0
    tree = MCTS(simulations=2, rollout=0, particles=1).search(found, state, noise=torch.Generator())
    assert tree.root_visits.argmax(1).tolist() == [1] * 4, "the prior's"
    # Three of places -5 to 5: h⁻¹(3) ≈ 15
    np.testing.assert_allclose(tree.own_value[:, 0], float(unsquashed(torch.tensor(3.0))), rtol=1e-3)


def test_bad_arguments() -> None:
    with pytest.raises(ConfigurationError, match=r"policy over Discrete actions, got Box.*'rssm'"):
        ValueEquivalent(3, spaces.Box(-1, 1, (2,)))
    with pytest.raises(ConfigurationError, match="hidden_size, width must be at least 1"):
        ValueEquivalent(3, ACTIONS, 0)
    with pytest.raises(ConfigurationError, match="width and support must be at least 1"):
        ValueEquivalent(3, ACTIONS, support=0)
    with pytest.raises(ConfigurationError, match="termination='cutt'"):
        ValueEquivalent(3, ACTIONS, termination="cutt")
