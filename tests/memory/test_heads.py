"""Reward and termination heads: unbiased targets, calibrated probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.heads import RewardHead, TerminationHead


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fit(head: Any, features: Tensor, target: Tensor, *, steps: int = 250, rate: float = 1e-2) -> None:
    optimiser = torch.optim.Adam(head.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        head.loss(features, target).mean().backward()
        optimiser.step()


@given(st.floats(-150, 150, width=32))
def test_two_hot_has_the_reward_for_its_expectation(reward: float) -> None:
    head = RewardHead(1, "two_hot")
    weights = head._two_hot(torch.tensor([reward]))[0]
    assert weights.sum().item() == pytest.approx(1, abs=1e-6)
    assert (weights >= 0).all()
    filled = weights.nonzero().flatten()
    assert len(filled) <= 2
    assert filled[-1] - filled[0] == len(filled) - 1  # neighbours
    assert (weights.double() @ head.values.double()).item() == pytest.approx(reward, rel=1e-4, abs=1e-4)


def test_two_hot_on_its_own_values_is_one_hot() -> None:
    head = RewardHead(1, "two_hot", bins=9, bound=20.0)
    assert torch.equal(head._two_hot(head.values).argmax(1), torch.arange(9))
    torch.testing.assert_close(head._two_hot(head.values), torch.eye(9), rtol=0, atol=1e-5)
    assert head.values[4] == 0
    torch.testing.assert_close(head.values[[0, -1]], torch.tensor([-20.0, 20.0]))
    torch.testing.assert_close(head.values, -head.values.flip(0))
    # rewards beyond the bound are taken as the bound
    assert head._two_hot(torch.tensor([99.0]))[0, -1] == 1


@pytest.mark.parametrize("kind", ["two_hot", "mse"])
def test_the_expected_reward_is_nothing_before_training(kind: str) -> None:
    head = RewardHead(4, kind)
    found = head(torch.randn(5, 7, 4, generator=seeded()))
    assert (found.shape, found.dtype) == ((5, 7), torch.float32)
    assert found.abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["two_hot", "mse"])
def test_a_rare_spike_is_learned_for_its_mean(kind: str) -> None:
    """CarRacing pays so: -0.1 a frame and now and then +3.2. What cannot be told apart is predicted by its mean."""
    generator = seeded()
    seen = (torch.rand(2000, 1, generator=generator) < 0.5).float()
    spike = torch.rand(2000, generator=generator) < 0.1 + 0.2 * seen[:, 0]
    reward = torch.where(spike, 3.2, -0.1)
    head = RewardHead(1, kind, width=16)
    fit(head, seen, reward, steps=200)
    for value in (0.0, 1.0):
        mean = reward[seen[:, 0] == value].mean().item()
        assert head(torch.tensor([[value]])).item() == pytest.approx(mean, abs=0.05)


def test_the_mse_loss_is_half_the_squared_error() -> None:
    head = RewardHead(2, "mse")
    found = head.loss(torch.ones(3, 2), torch.tensor([0.0, 2.0, -3.0]))
    assert found.tolist() == pytest.approx([0, 2, 4.5])


def test_rewards_beyond_the_bound_are_refused() -> None:
    RewardHead(2, "two_hot").check_range(-150.0, 150.0)
    RewardHead(2, "mse").check_range(-1e6, 1e6)
    for low, high in ((-151.0, 0.0), (0.0, 200.0)):
        with pytest.raises(ConfigurationError, match="reaches 150. Use reward_head='mse'"):
            RewardHead(2, "two_hot").check_range(low, high)


@pytest.mark.parametrize(
    ("kind", "options"), [("twohot", {}), ("mse", {"bins": 4}), ("mse", {"bins": 1}), ("mse", {"bound": 0.0})]
)
def test_reward_heads_out_of_range_are_refused(kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="reward"):
        RewardHead(2, kind, **options)


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_the_weight_is_divided_out_of_the_probability(weight: float) -> None:
    generator = seeded(3)
    seen = (torch.rand(4000, 1, generator=generator) < 0.5).float()
    ended = (torch.rand(4000, generator=generator) < 0.02 + 0.1 * seen[:, 0]).float()
    head = TerminationHead(1, weight=weight, width=16)
    fit(head, seen, ended)
    for value in (0.0, 1.0):
        rate = ended[seen[:, 0] == value].mean().item()
        logit = head(torch.tensor([[value]]))
        assert head.probability(logit).item() == pytest.approx(rate, abs=0.012)
        # and the logit itself is that of the weighted odds
        assert torch.sigmoid(logit).item() == pytest.approx(weight * rate / (1 - rate + weight * rate), abs=0.04)


def test_the_cut_lies_where_it_is_said_to() -> None:
    head = TerminationHead(1, weight=4.0)
    assert head.probability(torch.tensor(0.0)).item() == pytest.approx(1 / (1 + 4))


def test_the_termination_loss_is_weighted_cross_entropy() -> None:
    head, features = TerminationHead(2, weight=3.0), torch.randn(6, 2, generator=seeded())
    ended = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    probability = torch.sigmoid(head(features))
    by_hand = -(3 * ended * probability.log() + (1 - ended) * (1 - probability).log())
    torch.testing.assert_close(head.loss(features, ended), by_hand)


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="termination_weight must be positive"):
        TerminationHead(2, weight=0.0)


@pytest.mark.parametrize(("bound", "within"), [(300.0, 0.1), (2400.0, 0.15), (150.0, 0.01)])
def test_what_was_learned_for_smaller_values_stays(bound: float, within: float) -> None:
    head, wider = RewardHead(2, "two_hot", width=32), RewardHead(2, "two_hot", width=32, bound=bound)
    features, rewards = torch.eye(2), torch.tensor([50.0, -3.0])
    fit(head, features, rewards, rate=2e-2)
    wider.load_state_dict(head.state_dict())
    stretched = wider(features).tolist()
    wider.respace(head.bound)
    assert wider(features).tolist() == pytest.approx(rewards.tolist(), rel=within)
    if bound > head.bound:
        assert stretched != pytest.approx(rewards.tolist(), rel=0.2)
