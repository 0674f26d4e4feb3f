"""What iCEM adds to CEM: coloured draws, and elites that are tried again."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import GeneratorNoise
from dreamenv.planners import CEM
from dreamenv.planners.sequences import BoxSequences, coloured
from tests.agents.small_dreams import CHOICE, MOVE, TARGET, StairsMemory, TargetMemory, small_dream
from tests.planners.problems import state_at

WIDE = BoxSequences(spaces.Box(-1.0, 1.0, (2,), np.float32), torch.device("cpu"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("entries", [1, 2, 7, 12])
@pytest.mark.parametrize("colour", [0.0, 1.0, 2.5, 400.0])
def test_coloured_draws_have_the_variance_of_white_ones(entries: int, colour: float) -> None:
    drawn = coloured(torch.randn(20_000, entries, 2, generator=generator()), colour)
    assert drawn.shape == (20_000, entries, 2)
    torch.testing.assert_close(drawn.var(0), torch.ones(entries, 2), rtol=0.0, atol=0.06)


def test_the_power_of_coloured_draws_falls_with_the_frequency() -> None:
    drawn = coloured(torch.randn(20_000, 16, 1, generator=generator()), 2.0)
    power = torch.fft.rfft(drawn, dim=1).abs().square().mean(0).flatten()
    # f^-2: twice the frequency has a quarter of the power
    torch.testing.assert_close(power[[2, 4, 8]] / power[[1, 2, 4]], torch.full((3,), 0.25), rtol=0.06, atol=0.0)
    neighbours = (drawn[:, :-1] * drawn[:, 1:]).mean()
    assert float(neighbours) > 0.7


def test_without_colour_the_draws_are_those_of_before() -> None:
    centre, spread = torch.zeros(1, 3, 2), torch.ones(1, 3, 2)
    plain = WIDE.around(centre, spread, 5, GeneratorNoise(generator()))
    white = torch.randn(5, 6, generator=generator()).view(1, 5, 3, 2).clamp(-1, 1)
    assert torch.equal(plain, white)
    assert not torch.equal(WIDE.around(centre, spread, 5, GeneratorNoise(generator()), colour=2.0), plain)


def test_the_best_elites_are_candidates_again() -> None:
    seen: list[Tensor] = []

    def score(candidates: Tensor) -> Tensor:
        seen.append(candidates)
        return -candidates.square().sum((2, 3)).double()

    planner: Any = CEM(horizon=3, candidates=12, elites=4, iterations=3, kept=0.5)
    planner._search(WIDE, score, torch.zeros(2, 3, 2) + 0.5, GeneratorNoise(generator()))
    assert [candidates.shape for candidates in seen] == [(2, 12, 3, 2)] * 3
    for former, later in pairwise(seen):
        best = (-former.square().sum((2, 3))).argsort(dim=1, descending=True, stable=True)[:, :2]
        for row in range(2):
            assert torch.equal(later[row, -2:], former[row, best[row]])


def test_it_plans_with_both() -> None:
    model = small_dream(TargetMemory(), MOVE)
    planner = CEM(horizon=3, candidates=100, elites=10, iterations=6, colour=2.0, kept=0.3)
    plan = planner.plan(model, state_at(model, 0.0, 0.1), noise=generator())
    assert plan.action.flatten().tolist() == pytest.approx([TARGET, TARGET - 0.1], abs=0.05)


def test_the_best_plan_is_the_answer_where_that_is_asked_for() -> None:
    """Two hills and a valley between: the centre of the elites lies in the valley, where nothing is to be had."""

    def score(candidates: Tensor) -> Tensor:
        return -(candidates.abs() - 0.8).square().sum((2, 3)).double()

    start = torch.zeros(4, 1, 2)
    settings: dict[str, Any] = {"horizon": 1, "candidates": 64, "elites": 32, "iterations": 1}
    centre, best = (
        CEM(**settings, best=best)._search(WIDE, score, start, GeneratorNoise(generator())) for best in (False, True)
    )
    drawn = WIDE.around(start, torch.full_like(start, 0.5), 64, GeneratorNoise(generator()))
    expected = score(torch.cat([start.unsqueeze(1), drawn[:, 1:]], dim=1)).amax(1)
    assert torch.equal(best.value, expected)
    assert torch.equal(score(best.centre.unsqueeze(1))[:, 0], best.value)
    assert (score(centre.centre.unsqueeze(1))[:, 0] < best.value - 0.3).all()
    # What a search begins from is scored too, and so is what it ends with
    summit = torch.full((4, 1, 2), 0.8)
    assert torch.equal(
        CEM(**settings, best=True)._search(WIDE, score, summit, GeneratorNoise(generator())).centre, summit
    )
    slope = CEM(horizon=1, candidates=64, elites=8, iterations=4, best=True)
    found = slope._search(
        WIDE, lambda plans: -(plans - 0.31).square().sum((2, 3)).double(), start, GeneratorNoise(generator())
    )
    torch.testing.assert_close(found.centre, torch.full((4, 1, 2), 0.31), atol=0.03, rtol=0.0)


@pytest.mark.parametrize(("memory", "space"), [(TargetMemory(), MOVE), (StairsMemory(), CHOICE)])
def test_the_best_plan_is_no_worse_than_the_warm_one(memory: Any, space: Any) -> None:
    model = small_dream(memory, space)
    state = state_at(model, 0.0, 0.1)
    good = CEM(horizon=4, candidates=200, iterations=6).plan(model, state, noise=generator())
    hasty = CEM(horizon=4, candidates=4, elites=4, iterations=1, best=True)
    found = hasty.plan(model, state, noise=generator(), warm=good.proposal)
    again = CEM(horizon=4, candidates=1, elites=1, iterations=1, best=True, spread=1e-6)
    assert (found.value >= again.plan(model, state, noise=generator(), warm=good.proposal).value - 1e-6).all()


def test_what_does_not_fit_is_refused() -> None:
    for wrong in ({"colour": -1.0}, {"colour": float("nan")}, {"kept": 1.5}, {"kept": -0.1}):
        with pytest.raises(ConfigurationError, match="colour must be a finite number"):
            CEM(**wrong)
    with pytest.raises(ConfigurationError, match="nothing new would be drawn"):
        CEM(candidates=8, elites=8, kept=0.5)
    model = small_dream(StairsMemory(), CHOICE)
    with pytest.raises(ConfigurationError, match=r"Discrete actions have no colour.*action_repeat"):
        CEM(colour=1.0).plan(model, state_at(model, 0.0), noise=generator())
