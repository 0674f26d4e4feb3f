from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.envs.actions import ActionChecker
from dreamenv.errors import InvalidActionError
from tests.fakes import BOX, DISCRETE

UNBOUNDED = spaces.Box(-np.inf, np.inf, (1,), np.float32)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 1], "got action 0 in row 0, expected an integer from 1 to 4"),
        ([1, 5], "got action 5 in row 1"),
        ([1], r"shape \(1,\)"),
        ([[1], [2]], r"shape \(2, 1\)"),
        ([1.0, 2.0], "float64"),
        ([True, False], "bool"),
        (["a", "b"], "expected 2 integers"),
        ([[1], [1, 2]], "no array"),
        (None, r"shape \(\)"),
    ],
)
def test_bad_discrete_actions(actions: Any, message: str) -> None:
    with pytest.raises(InvalidActionError, match=message):
        ActionChecker(DISCRETE).check(actions, 2)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0.0, 1.0], [0.0, 2.1]], r"got 2\.0\d* in row 1, column 1, expected a number from 0\.0 to 2\.0\. Clip"),
        ([[np.nan, 1.0], [0.0, 1.0]], "got nan in row 0, column 0, expected a finite number"),
        ([[np.inf, 1.0], [0.0, 1.0]], "got inf"),
        ([[1.0, 1.0]], r"shape \(1, 2\).*expected numbers of shape \(2, 2\)"),
        ([[1.0], [1.0]], r"shape \(2, 1\)"),
        ([["1", "1"], ["1", "1"]], "expected numbers"),
    ],
)
def test_bad_box_actions(actions: Any, message: str) -> None:
    with pytest.raises(InvalidActionError, match=message):
        ActionChecker(BOX).check(actions, 2)


def test_infinite_actions_are_refused_in_an_unbounded_space() -> None:
    checker = ActionChecker(UNBOUNDED)
    assert checker.check([[1e30]], 1)[0, 0] == np.float32(1e30)
    with pytest.raises(InvalidActionError, match="finite"):
        checker.check([[-np.inf]], 1)


def test_rounding_at_a_bound_is_let_through() -> None:
    ActionChecker(BOX).check(np.array([[1.0 + 5e-7, 2.0]]), 1)
    with pytest.raises(InvalidActionError):
        ActionChecker(BOX).check(np.array([[1.0 + 5e-6, 2.0]]), 1)


def test_rows_that_are_not_active_are_not_looked_at_and_come_back_inside_the_space() -> None:
    active = np.array([True, False])
    discrete = ActionChecker(DISCRETE).check(np.array([2, 77]), 2, active)
    box = ActionChecker(BOX).check(np.array([[0.5, 1.0], [np.nan, 9.0]]), 2, active)
    assert discrete.tolist() == [2, 1]
    assert box[0].tolist() == [0.5, 1.0]
    assert BOX.contains(box[1])


def test_the_result_is_a_copy_of_the_right_type() -> None:
    given = np.array([[0.5, 1.0]], np.float32)
    result = ActionChecker(BOX).check(given, 1)
    result[:] = 0
    assert given.tolist() == [[0.5, 1.0]]
    assert ActionChecker(DISCRETE).check(np.array([1, 2], np.int32), 2).dtype == np.int64
