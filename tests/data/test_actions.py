"""Actions of any space: what memories and agents take is mapped onto them, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.data.actions import ActionMapping
from dreamenv.errors import ConfigurationError
from dreamenv.types import RealEnvSpec

INF = np.inf


def mapping(space: Any, **fields: Any) -> ActionMapping:
    return ActionMapping(space, RealEnvSpec("Own-v0", **fields))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(4),
        spaces.Discrete(3, start=-1),
        spaces.MultiDiscrete([3, 2, 4]),
        spaces.MultiDiscrete([[2, 2]], start=[[4, -1]]),
        spaces.MultiBinary(4),
        spaces.MultiBinary((2, 2)),
        spaces.Box(0, 4, (2,), np.int64),
        spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiBinary(2)]),
        spaces.Dict(b=spaces.Discrete(2), a=spaces.Discrete(5)),
    ],
)
def test_choices_become_one_number_and_back(space: Any) -> None:
    found = mapping(space)
    assert isinstance(found.space, spaces.Discrete)
    assert found.space.start == 0
    actions = [found.to_real(np.int64(index)) for index in range(found.space.n)]
    assert all(space.contains(action) for action in actions)
    assert len({str(action) for action in actions}) == found.space.n
    assert [int(found.from_real(action)) for action in actions] == list(range(found.space.n))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-2, 2, (3,), np.float32),
        spaces.Box(-2, 2, (2, 2), np.float64),
        spaces.Box(0, 1, (), np.float32),
        spaces.Box(0, 255, (3,), np.uint8),
        spaces.MultiDiscrete([50, 60]),
        spaces.MultiBinary(30),
        spaces.Tuple([spaces.Discrete(3), spaces.Box(-1, 1, (2,))]),
        spaces.Box(np.array([-1, 2], np.float32), np.array([1, 2], np.float32)),  # one dimension of a single value
        spaces.Box(-1e7, 1e7, (1,)),
    ],
)
def test_numbers_become_a_finite_box_and_back(space: Any) -> None:
    found = mapping(space)
    assert isinstance(found.space, spaces.Box)
    assert found.space.is_bounded()
    assert len(found.space.shape) == 1
    found.space.seed(0)
    for action in (*(found.space.sample() for _ in range(50)), found.space.low, found.space.high):
        real = found.to_real(action)
        assert space.contains(real)
        again = found.from_real(real)
        assert str(found.to_real(again)) == str(real)


def test_each_whole_number_has_the_same_share() -> None:
    found = mapping(spaces.Box(0, 299, (1,), np.int64))
    assert (found.space.low, found.space.high) == (-0.5, 299.5)
    assert [int(found.to_real(np.float32([x]))[0]) for x in (-0.5, 0.4, 0.6, 298.6, 299.5)] == [0, 0, 1, 299, 299]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-INF, INF, (-1, 1)),
        (0, INF, (0, 2)),
        (-INF, 5, (3, 5)),
        (-3.4e38, 3.4e38, (-1, 1)),
        (0, 3.4e38, (0, 2)),
        (-1e7, 1e7, (-1e7, 1e7)),
    ],
)
def test_a_side_without_a_bound_gets_one_that_is_said(low: float, high: float, expected: tuple[float, float]) -> None:
    space = spaces.Box(low, high, (1,), np.float32)
    found = mapping(space)
    assert (found.space.low[0], found.space.high[0]) == pytest.approx(expected)
    assert all(space.contains(found.to_real(bound)) for bound in (found.space.low, found.space.high))
    lacks = {(True, True): "no bounds", (True, False): "no lower bound", (False, True): "no upper bound"}
    expected_note = lacks.get((low < -1e18, high > 1e18))
    assert [note.split(":")[0] for note in found.steps[1:]] == (
        [] if expected_note is None else [f"dimension 0 has {expected_note}"]
    )


def test_bounds_can_be_given() -> None:
    space = spaces.Box(0, INF, (2,), np.float32)
    assert mapping(space, action_bounds=((0, 50),)).space == spaces.Box(0, 50, (2,), np.float32)
    assert mapping(space, action_bounds=((0, 50), (1, 2))).space.high.tolist() == [50, 2]
    with pytest.raises(ConfigurationError, match="does not lie within the space's 0 to inf"):
        mapping(space, action_bounds=((-1, 1),))
    with pytest.raises(ConfigurationError, match="holds 3 pairs, expected 1 or 2"):
        mapping(space, action_bounds=((0, 1),) * 3)


def test_bounds_of_whole_numbers_are_rounded_inward() -> None:
    for space in (spaces.MultiDiscrete([5, 5]), spaces.Box(0, 4, (2,), np.int64)):
        found = mapping(space, action_bounds=((0.5, 2.2),))
        assert found.space == spaces.Discrete(4)
        real = [found.to_real(np.int64(index)).tolist() for index in range(4)]
        assert real == [[1, 1], [1, 2], [2, 1], [2, 2]]
        assert [int(found.from_real(np.array(action))) for action in real] == [0, 1, 2, 3]
        with pytest.raises(ConfigurationError, match=r"0\.2 to 0\.8 of dimension 1 holds no whole number"):
            mapping(space, action_bounds=((0, 1), (0.2, 0.8)))


@pytest.mark.parametrize("space", [spaces.Discrete(5), spaces.Discrete(5, start=-2)])
def test_bounds_of_a_choice_are_refused(space: Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"Own-v0: action_bounds is \(\(0, 1\),\), expected None for .*Discrete"
    ):
        mapping(space, action_bounds=((0, 1),))


def test_what_is_one_already_stays_as_it_is() -> None:
    space = spaces.Box(-2, 2, (3,), np.float64)
    action = np.ones(3)
    assert mapping(space).space is space
    assert mapping(space).to_real(action) is action
    assert mapping(space).steps == mapping(spaces.Discrete(3)).steps == ()
    assert mapping(spaces.Discrete(3)).to_real(np.array(2)) == 2
    assert np.ndim(mapping(spaces.Discrete(3)).to_real(np.array(2))) == 0


def test_what_cannot_be_mapped_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"Own-v0: action space Text.*TransformAction"):
        mapping(spaces.Text(3))
    with pytest.raises(ConfigurationError, match="nothing to choose"):
        mapping(spaces.Box(0, 1, (0,)))
    with pytest.raises(ValueError, match="outside of 0 to 2"):
        mapping(spaces.Box(0, INF, (1,))).from_real(np.array([7.0]))
