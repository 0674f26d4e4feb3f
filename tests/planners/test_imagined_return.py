from __future__ import annotations

import pytest
import torch

from dreamenv.errors import NonFiniteError
from dreamenv.noise.base import GeneratorNoise
from dreamenv.planners import imagined_returns
from tests.agents.small_dreams import CHOICE, StairsMemory, small_dream
from tests.fakes import CountingMemory, fake_world_model
from tests.planners.problems import bandit_model, state_at


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_returns_are_discounted_sums_of_the_rewards_of_each_plan() -> None:
    model = fake_world_model(CountingMemory())
    state = model.start(torch.tensor([0, 1]), noise=generator())
    # Rewards are the action plus the age: 1 + 1, 2 + 2, 3 + 3 and so on
    plans = torch.tensor([[[1, 2, 3], [4, 4, 4]], [[1, 1, 1], [2, 1, 4]]])
    returns = imagined_returns(model, state, plans, noise=generator(), discount=0.5)
    assert returns.dtype == torch.float64
    assert returns.tolist() == [[2 + 2 + 1.5, 5 + 3 + 1.75], [2 + 1.5 + 1, 3 + 1.5 + 1.75]]


def test_what_follows_an_end_does_not_count() -> None:
    model = fake_world_model(CountingMemory(lifetime=2))
    state = model.start(torch.tensor([0]), noise=generator())
    plans = torch.ones(1, 1, 4, dtype=torch.int64)
    assert imagined_returns(model, state, plans, noise=generator()).tolist() == [[2 + 3]]
    half = small_dream(StairsMemory(ends=0.5), CHOICE)
    stay = torch.full((1, 1, 3), int(CHOICE.start) + 1)
    assert imagined_returns(half, state_at(half, 8.0), stay, noise=generator()).tolist() == [[8 + 4 + 2]]


def test_the_terminal_value_is_that_of_the_last_features_if_they_are_reached() -> None:
    plans = torch.full((1, 1, 2), int(CHOICE.start) + 1)
    for ends, expected in ((0.0, 1 + 0.5 + 0.25 * 100), (0.5, 1 + 0.25 + 0.0625 * 100)):
        model = small_dream(StairsMemory(ends=ends), CHOICE)
        returns = imagined_returns(
            model,
            state_at(model, 1.0),
            plans,
            noise=generator(),
            discount=0.5,
            terminal_value=lambda f: 100 * f[:, 0],
        )
        assert returns.tolist() == [[expected]]


def test_particles_average_the_noise_and_temperature_scales_it() -> None:
    model = bandit_model()
    plans = torch.full((1, 1, 1), 2).expand(300, 1, 1)
    state = state_at(model, *[0.0] * 300)
    spread = {}
    for particles, temperature in ((1, 1.0), (16, 1.0), (16, 0.5)):
        returns = imagined_returns(model, state, plans, noise=generator(), particles=particles, temperature=temperature)
        assert returns.mean() == pytest.approx(0.5, abs=4 * temperature / (300 * particles) ** 0.5)
        spread[particles, temperature] = float(returns.std())
    assert spread[1, 1.0] == pytest.approx(1, rel=0.15)
    assert spread[16, 1.0] == pytest.approx(1 / 4, rel=0.15)
    assert spread[16, 0.5] == pytest.approx(1 / 8, rel=0.15)


def test_common_noise_leaves_the_difference_of_the_actions() -> None:
    model = bandit_model()
    plans = torch.tensor([[[1, 1], [2, 2], [3, 3]]])
    state = state_at(model, 0.0)
    common = imagined_returns(model, state, plans, noise=generator())[0]
    assert (common - common[0]).tolist() == pytest.approx([0, 1.0, 0.4], abs=1e-5)
    own = imagined_returns(model, state, plans, noise=generator(), common_noise=False)[0]
    assert (own - own[0]).tolist() != pytest.approx([0, 1.0, 0.4], abs=0.01)


def test_returns_that_are_not_finite_are_refused() -> None:
    model = fake_world_model(CountingMemory(broken_from=3))
    state = model.start(torch.tensor([0]), noise=generator())
    for length in (2, 3):
        plans = torch.ones(1, 4, length, dtype=torch.int64)
        if length == 2:
            imagined_returns(model, state, plans, noise=GeneratorNoise(generator()))
        else:
            with pytest.raises(NonFiniteError, match=r"not finite.*temperature \(1\) or horizon \(3\)"):
                imagined_returns(model, state, plans, noise=generator())
