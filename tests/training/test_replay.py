"""Windows of experience that is laid end to end."""

from __future__ import annotations

import numpy as np
import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.training.replay import Replay
from tests.training.synthetic import counted

ALL = np.arange(3)


def test_windows_are_cut_anywhere_and_mark_where_episodes_begin() -> None:
    cache = counted([3, 2, 4], terminated=[True, False, True], final_valid=[True, True, False])
    replay = Replay(cache, ALL, length=6)
    assert len(replay) == (4 + 3 + 5) - 6 + 1
    batch = replay.windows(np.array([2, 6]))
    # Episode e at time t shows 100 e + t; the moments are 2 and 3 of episode 0, all of 1, the first of 2
    assert batch.observations[..., 0].tolist() == [[2, 3, 100, 101, 102, 200], [102, 200, 201, 202, 203, 204]]
    assert batch.first.tolist() == [[False, False, True, False, False, True], [False, True, False, False, False, False]]
    led = ~batch.first
    # It did 10 e + t and was paid 1000 e + t on the way from t to t + 1
    assert batch.actions[led].tolist() == [1, 2, 10, 11, 11, 20, 21, 22, 23]
    assert batch.rewards.tolist() == [[1, 2, 0, 1000, 1001, 0], [1001, 0, 2000, 2001, 2002, 2003]]
    assert batch.terminated.tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    assert batch.seen.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], "the last frame of episode 2 is a repeat"


def test_only_the_chosen_episodes_are_drawn_from() -> None:
    cache = counted([3, 2, 4])
    batch = Replay(cache, np.array([0, 2]), length=4).draw(200, np.random.default_rng(0))
    shown = set(batch.observations[..., 0].flatten().tolist())
    assert shown == {0, 1, 2, 3, 200, 201, 202, 203, 204}


def test_recency_prefers_what_came_late_by_its_weight() -> None:
    cache = counted([90, 90])
    begins = {}
    for recency in (0.0, 2.0):
        batch = Replay(cache, np.arange(2), length=2, recency=recency).draw(20_000, np.random.default_rng(1))
        begins[recency] = float((batch.observations[:, 0, 0] >= 100).float().mean())
    assert begins[0.0] == pytest.approx(0.5, abs=0.02)
    # The integral of exp(2 x) over the later half
    assert begins[2.0] == pytest.approx((np.exp(2) - np.exp(1)) / (np.exp(2) - 1), abs=0.02)


def test_too_little_experience_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="3 episodes hold 12 moments, less than a window of 13"):
        Replay(counted([3, 2, 4]), ALL, length=13)
    for bad in ({"length": 1}, {"length": 4, "recency": -1.0}, {"length": 4, "recency": 701.0}):
        with pytest.raises(ConfigurationError, match=r"sequence_length >= 2 and recency in \[0, 700\]"):
            Replay(counted([3, 2, 4]), ALL, **bad)
    newest = Replay(counted([3, 2, 4]), ALL, length=2, recency=700.0).draw(50, np.random.default_rng(0))
    assert (newest.observations[:, 0, 0] >= 200).all()
