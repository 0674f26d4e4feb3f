"""Noise on actions: how much, of which form, and from which numbers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.agents.action_noise import ActionNoise
from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import GeneratorNoise

ROWS = 20_000
CHOICE = spaces.Discrete(4, start=2)
UNEVEN = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 10.0], np.float32))


def noise() -> GeneratorNoise:
    return GeneratorNoise(torch.Generator().manual_seed(0))


def test_a_share_of_discrete_actions_is_drawn_anew() -> None:
    given = torch.full((ROWS,), 3)
    found = ActionNoise(CHOICE, 0.4)(given, noise())
    shares = torch.bincount(found, minlength=6)[2:] / ROWS
    np.testing.assert_allclose(shares.numpy(), [0.1, 0.7, 0.1, 0.1], atol=0.01)
    assert found.dtype == given.dtype


def test_a_box_is_disturbed_in_half_ranges_and_never_left() -> None:
    middle = torch.tensor([[0.0, 5.0]]).expand(ROWS, 2)
    found = ActionNoise(UNEVEN, 0.1)(middle, noise())
    np.testing.assert_allclose(found.std(0).numpy(), [0.1, 0.5], rtol=0.05)
    np.testing.assert_allclose(found.mean(0).numpy(), [0.0, 5.0], atol=0.02)
    edge = ActionNoise(UNEVEN, 0.5)(torch.tensor([[1.0, 0.0]]).expand(ROWS, 2), noise())
    assert all(UNEVEN.contains(row) for row in edge[:200].numpy())
    assert 0.45 < float((edge[:, 0] == 1.0).float().mean()) < 0.55


@pytest.mark.parametrize("space", [CHOICE, UNEVEN])
def test_no_noise_draws_nothing(space: gym.Space[object]) -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    given = torch.as_tensor(space.sample())[None]
    assert ActionNoise(space, 0.0)(given, GeneratorNoise(generator)) is given
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("amount", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("space", [CHOICE, UNEVEN])
def test_amounts_out_of_range_are_refused(space: gym.Space[object], amount: float) -> None:
    with pytest.raises(ConfigurationError, match="action_noise"):
        ActionNoise(space, amount)
