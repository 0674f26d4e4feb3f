from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import GeneratorNoise
from dreamenv.planners.sequences import sequences_of
from tests.fakes import BOX, DISCRETE

CPU = torch.device("cpu")


def noise() -> GeneratorNoise:
    return GeneratorNoise(torch.Generator().manual_seed(0))


def test_box_entries_are_half_ranges_around_the_middle() -> None:
    box = sequences_of(BOX, CPU)
    plans = torch.tensor([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [0.5, -0.5]])
    assert box.actions(plans).tolist() == [[-1, 0], [0, 1], [1, 2], [0.5, 0.5]]
    assert box.actions(box.neutral(1, 2)).tolist() == [[[0, 1], [0, 1]]]


def test_box_draws_have_the_centre_and_the_spread_and_stay_inside() -> None:
    box = sequences_of(BOX, CPU)
    centre = torch.tensor([[[0.2, -0.3]]])
    spread = box.initial_spread(centre, 0.1)
    drawn = box.around(centre, spread, 20_000, noise())
    assert drawn.shape == (1, 20_000, 1, 2)
    assert drawn.mean((0, 1, 2)).tolist() == pytest.approx([0.2, -0.3], abs=0.003)
    assert drawn.std((0, 1, 2)).tolist() == pytest.approx([0.1, 0.1], abs=0.003)
    assert box.around(centre, 100 * spread, 100, noise()).abs().max() == 1
    uniform = box.uniform(2, 5_000, 3, noise())
    assert uniform.shape == (2, 5_000, 3, 2)
    assert uniform.mean() == pytest.approx(0, abs=0.01)
    assert uniform.var() == pytest.approx(1 / 3, abs=0.01)
    assert uniform.abs().max() <= 1


def test_box_refit_is_the_weighted_mean_and_deviation() -> None:
    box = sequences_of(BOX, CPU)
    candidates = torch.tensor([0.0, 0.4, 0.8]).view(1, 3, 1, 1).expand(1, 3, 1, 2)
    weights = torch.tensor([[0.5, 0.0, 0.5]])
    assert box.refit_centre(candidates, weights).flatten().tolist() == pytest.approx([0.4, 0.4])
    assert box.refit_spread(candidates, weights, 0.1).flatten().tolist() == pytest.approx([0.4, 0.4])
    assert box.refit_spread(candidates, weights, 0.5).flatten().tolist() == pytest.approx([0.5, 0.5])


def test_discrete_draws_follow_the_probabilities_and_the_uniform_share() -> None:
    discrete = sequences_of(DISCRETE, CPU)
    centre = torch.tensor([[[0.7, 0.3, 0.0, 0.0]]])
    for share, expected in ((0.0, [0.7, 0.3, 0, 0]), (0.4, [0.52, 0.28, 0.1, 0.1]), (3.0, [0.25] * 4)):
        drawn = discrete.around(centre, discrete.initial_spread(centre, share), 20_000, noise())
        assert drawn.shape == (1, 20_000, 1, 4)
        assert drawn.mean((0, 1, 2)).tolist() == pytest.approx(expected, abs=0.01)
    assert (drawn.sum(-1) == 1).all()
    assert discrete.uniform(2, 5_000, 3, noise()).mean((0, 1, 2)).tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_discrete_actions_begin_at_the_space_s_start() -> None:
    discrete = sequences_of(DISCRETE, CPU)
    centre = torch.tensor([[[0.1, 0.2, 0.6, 0.1], [0.9, 0.1, 0.0, 0.0]]])
    assert discrete.actions(discrete.mode(centre)).tolist() == [[3, 1]]
    assert discrete.neutral(1, 2).sum(-1).tolist() == [[1, 1]]
    candidates = torch.eye(4).view(1, 4, 1, 4)
    weights = torch.tensor([[0.5, 0.25, 0.25, 0.0]])
    assert discrete.refit_centre(candidates, weights).flatten().tolist() == [0.5, 0.25, 0.25, 0]
    assert discrete.refit_spread(candidates, weights, 0.05).flatten().tolist() == pytest.approx([0.05])


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.MultiDiscrete([2, 2]), "Discrete or one-dimensional Box"),
        (spaces.Box(-1, 1, (2, 2)), "Discrete or one-dimensional Box"),
        (spaces.Box(-np.inf, np.inf, (2,)), "no finite bounds.*RescaleAction"),
    ],
)
def test_other_spaces_are_refused(space: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sequences_of(space, CPU)
