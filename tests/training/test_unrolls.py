"""Targets of unrolled steps, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.training.unrolls import Unrolls

# Two episodes of three and two steps; the first ends by the task, the second by the time limit
CACHE = EpisodeCache(
    observations=np.array([[0], [1], [2], [3], [10], [11], [12]], np.float32),
    actions=np.array([1, 2, 3, 4, 5]),
    rewards=np.array([1, 2, 4, 8, 16], np.float32),
    first=np.array([0, 4]),
    lengths=np.array([3, 2]),
    terminated=np.array([True, False]),
    final_valid=np.array([True, True]),
)


def test_what_follows_a_moment() -> None:
    unrolls = Unrolls(CACHE, np.arange(2), steps=2, returns=2, discount=0.5)
    assert len(unrolls) == 5
    batch = unrolls.moments(np.array([0, 2, 4]))
    assert batch.observations[..., 0].tolist() == [[0, 1, 2], [2, 3, 3], [11, 12, 12]]
    assert batch.acts.tolist() == [[True, True, True], [True, False, False], [True, False, False]]
    assert batch.actions[0].tolist() == [1, 2]
    assert batch.actions[:, 0].tolist() == [1, 3, 5]
    assert batch.played.tolist() == [[True, True], [True, False], [True, False]]
    assert batch.rewards.tolist() == [[1, 2], [4, 0], [16, 0]]
    assert batch.terminated.tolist() == [[0, 0], [1, 0], [0, 0]]
    # 1 + 2 / 2, 2 + 4 / 2, 4; of the second and third the end is reached
    assert batch.returns.tolist() == [[2, 4, 4], [4, 0, 0], [16, 0, 0]]
    assert batch.ahead[..., 0].tolist() == [[2, 3, 3], [3, 3, 3], [12, 12, 12]]
    # An ended task is worth nothing more; a time limit ends nothing
    assert batch.weight.tolist() == [[0.25, 0, 0], [0, 0, 0], [0.5, 1, 1]]


def test_an_end_without_a_picture_of_its_own_is_not_seen() -> None:
    blind = replace(CACHE, final_valid=np.array([False, True]))
    for cache, last in ((CACHE, True), (blind, False)):
        batch = Unrolls(cache, np.arange(2), steps=2, returns=2, discount=0.5).moments(np.array([0, 1, 2, 4]))
        assert batch.seen.tolist() == [[True, True], [True, last], [last, False], [True, False]]


def test_draws_and_bad_arguments() -> None:
    unrolls = Unrolls(CACHE, np.array([1]), steps=1, returns=3, discount=1.0)
    batch = unrolls.draw(50, np.random.default_rng(0))
    assert set(batch.observations[:, 0, 0].tolist()) == {10, 11}
    assert torch.equal(batch.to("cpu").rewards, batch.rewards)
    for options in ({"steps": 0}, {"returns": 0}, {"discount": 1.5}):
        with pytest.raises(ConfigurationError, match="need unroll and returns of at least 1"):
            Unrolls(CACHE, np.arange(2), **({"steps": 1, "returns": 1, "discount": 1.0} | options))
    with pytest.raises(ConfigurationError, match="hold no steps"):
        Unrolls(CACHE, np.arange(0), steps=1, returns=1, discount=1.0)


def test_returns_are_shorter_where_the_experience_is_older() -> None:
    unrolls = Unrolls(CACHE, np.arange(2), steps=1, returns=3, discount=1.0, oldest_returns=1)
    batch = unrolls.moments(np.arange(5))
    # n is 1, 1.5, 2, 2.5 and 3, and even where it lies between two; ends cut the last ones
    assert batch.returns[:, 0].tolist() == [1, 6, 4, 24, 16]
    assert batch.ahead[:, 0, 0].tolist() == [1, 3, 3, 12, 12]
    for oldest in (0, 4):
        with pytest.raises(ConfigurationError, match=r"oldest_returns must be in \[1, returns=3\]"):
            Unrolls(CACHE, np.arange(2), steps=1, returns=3, discount=1.0, oldest_returns=oldest)
