"""Observations of any space: what can be prepared is, as declared; what cannot is refused with the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.data.observations import preparation_of
from dreamenv.errors import ConfigurationError
from dreamenv.types import RealEnvSpec


def prepared(space: Any, observation: Any, **fields: Any) -> Any:
    found = preparation_of(space, RealEnvSpec("Own-v0", **fields))
    seen = found.prepare(observation)
    assert found.space.contains(seen)
    return seen


def picture(*shape: int, dtype: Any = np.uint8) -> Any:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "newest"),
    [
        ((64, 64, 3), lambda p: p),
        ((3, 64, 64), lambda p: p.transpose(1, 2, 0)),
        ((64, 64, 1), lambda p: np.repeat(p, 3, 2)),
        ((1, 64, 64), lambda p: np.repeat(p.transpose(1, 2, 0), 3, 2)),
        ((64, 64), lambda p: np.stack([p] * 3, -1)),
        ((64, 64, 4), lambda p: p[..., :3]),  # a fourth in the last place is transparency
        ((4, 64, 64), lambda p: p[1:].transpose(1, 2, 0)),  # a stack of grey pictures: the last three as colours
        ((64, 64, 6), lambda p: p[..., 3:]),
        ((64, 64, 2), lambda p: p[..., [0, 0, 1]]),
        ((4, 64, 64, 3), lambda p: p[-1]),  # a stack of pictures
        ((4, 3, 64, 64), lambda p: p[-1].transpose(1, 2, 0)),
        ((4, 64, 64, 1), lambda p: np.repeat(p[-1], 3, 2)),
    ],
)
def test_pictures_of_any_order_and_number_of_channels(shape: tuple[int, ...], newest: Any) -> None:
    raw = picture(*shape)
    assert np.array_equal(prepared(spaces.Box(0, 255, shape, np.uint8), raw), newest(raw))


def test_pictures_of_any_size_become_square() -> None:
    assert prepared(spaces.Box(0, 255, (210, 160, 3), np.uint8), picture(210, 160, 3)).shape == (64, 64, 3)
    assert prepared(spaces.Box(0, 255, (3, 20, 33), np.uint8), picture(3, 20, 33)).shape == (64, 64, 3)
    raw = picture(70, 64)
    seen = prepared(spaces.Box(0, 255, (70, 64), np.uint8), raw, crop=(6, 70, 0, 64))
    assert np.array_equal(seen[..., 0], raw[6:])


def test_pictures_of_any_type_become_bytes() -> None:
    raw = picture(64, 64, 3)
    for low, high, dtype in ((0.0, 1.0, np.float32), (-1.0, 1.0, np.float64)):
        scaled = (low + raw / 255.0 * (high - low)).astype(dtype)
        assert np.array_equal(prepared(spaces.Box(low, high, (64, 64, 3), dtype), scaled), raw)
    assert np.array_equal(prepared(spaces.Box(0, 255, (64, 64, 3), np.int64), raw.astype(np.int64)), raw)
    assert np.array_equal(prepared(spaces.Box(0, 255, (64, 64, 3), np.float32), raw.astype(np.float32)), raw)
    ones = raw > 127
    expected = ones * np.uint8(255)
    assert np.array_equal(prepared(spaces.Box(0, 1, (64, 64, 3), np.uint8), ones.astype(np.uint8)), expected)
    flags = preparation_of(spaces.Box(0, 1, (64, 64, 3), np.bool_), RealEnvSpec("x", observe_as="picture"))
    assert np.array_equal(flags.prepare(ones), expected)


def test_channels_can_be_chosen_and_a_map_shown() -> None:
    raw = picture(64, 64, 4)
    space = spaces.Box(0, 255, (64, 64, 4), np.uint8)
    assert np.array_equal(prepared(space, raw, channels=(3, 1, 0)), raw[..., [3, 1, 0]])
    assert np.array_equal(prepared(space, raw, channels=(2,)), np.repeat(raw[..., 2:3], 3, 2))
    codes = np.arange(7 * 7 * 3, dtype=np.uint8).reshape(7, 7, 3)
    small = spaces.Box(0, 255, (7, 7, 3), np.uint8)
    assert prepared(small, codes).tolist() == codes.ravel().tolist()  # codes of a map, such as MiniGrid's
    assert prepared(small, codes, observe_as="picture").shape == (64, 64, 3)
    assert prepared(space, raw, observe_as="vector").shape == (64 * 64 * 4,)


@pytest.mark.parametrize(
    ("space", "observation", "expected"),
    [
        (spaces.Box(-1, 1, (2, 2)), np.array([[1, 2], [3, 4]]) / 4, [0.25, 0.5, 0.75, 1.0]),
        (spaces.Box(-1, 1, ()), np.float32(0.5), [0.5]),
        (spaces.Box(-(2**62), 2**62, (2,), np.int64), np.array([3, -4]), [3, -4]),
        (spaces.Discrete(3, start=-1), -1, [1, 0, 0]),
        (spaces.Discrete(3, start=-1), np.array(1), [0, 0, 1]),
        (spaces.MultiDiscrete([2, 3]), np.array([1, 2]), [0, 1, 0, 0, 1]),
        (spaces.MultiDiscrete([[2], [2]], start=[[5], [6]]), np.array([[6], [6]]), [0, 1, 1, 0]),
        (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), [1, 0, 1]),
        (spaces.MultiBinary((2, 2)), np.array([[1, 0], [0, 1]], np.int8), [1, 0, 0, 1]),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (1,))]), (1, np.array([0.5])), [0, 1, 0.5]),
        (
            spaces.Dict(b=spaces.Box(0, 9, (2,)), a=spaces.Dict(c=spaces.Discrete(2))),
            {"b": np.array([7.0, 8.0]), "a": {"c": 0}},
            [7, 8, 1, 0],
        ),
    ],
)
def test_everything_else_is_a_vector(space: Any, observation: Any, expected: list[float]) -> None:
    assert prepared(space, observation).tolist() == expected


GOAL = spaces.Dict(observation=spaces.Box(-9, 9, (2,)), desired_goal=spaces.Box(-9, 9, (1,)), text=spaces.Text(4))


def test_entries_of_a_dict_are_joined_in_the_order_asked_for() -> None:
    seen = {"observation": np.array([1.0, 2.0]), "desired_goal": np.array([3.0]), "text": "go"}
    assert prepared(GOAL, seen, observation_key="observation").tolist() == [1, 2]
    assert prepared(GOAL, seen, observation_key=("observation", "desired_goal")).tolist() == [1, 2, 3]
    assert prepared(GOAL, seen, observation_key=("desired_goal", "observation")).tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    ("space", "fields", "message"),
    [
        (spaces.Text(5), {}, r"neither pictures nor vectors.*TransformObservation"),
        (spaces.Sequence(spaces.Discrete(2)), {}, "neither pictures nor vectors"),
        (GOAL, {}, r"Text.*neither pictures nor vectors.*FilterObservation or observation_key"),
        (GOAL, {"observation_key": ("observation", "gaol")}, r"expected one of .*'desired_goal'.*or a list of them"),
        (spaces.Box(-1, 1, (2,)), {"observation_key": "screen"}, "no Dict"),
        (spaces.Box(-np.inf, np.inf, (64, 64, 3)), {"observe_as": "picture"}, "expected finite bounds"),
        (spaces.Box(-1, 1, (2,)), {"observe_as": "picture"}, "no rows and columns"),
        (spaces.Box(-1, 1, (2,)), {"crop": (0, 1, 0, 1)}, "for pictures"),
        (spaces.Box(0, 255, (64, 64, 4), np.uint8), {"channels": (0, 4, 1)}, "one or three of 0 to 3"),
        (spaces.Discrete(10**9), {}, "one-hot up to"),
    ],
)
def test_what_cannot_be_prepared_names_the_way_out(space: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        preparation_of(space, RealEnvSpec("Own-v0", **fields))


@pytest.mark.parametrize(
    ("space", "observation", "message"),
    [
        (spaces.Box(-1, 1, (2,)), np.zeros(3), r"shape \(3,\), its space declares \(2,\)"),
        (spaces.Discrete(3), 3, "not in the space that it declares"),
        (spaces.Box(0, 1, (64, 64, 3)), np.full((64, 64, 3), 200.0), "declares 0 to 1. Correct observation_space"),
        (spaces.Box(0, 255, (32, 32, 3), np.uint8), np.full((32, 32, 3), 0.5), "of float64, its space declares uint8"),
        (spaces.Box(0, 255, (32, 32, 3), np.uint8), np.zeros((32, 32, 3), bool), "of bool, its space declares uint8"),
        (
            spaces.Box(0, 255, (32, 32, 3), np.uint8),
            np.full((32, 32, 3), -1),
            "from -1 to -1, its space declares uint8",
        ),
        (
            spaces.Box(0, 255, (32, 32, 3), np.int16),
            np.full((32, 32, 3), 300, np.int16),
            "int16 from 300 to 300, its.* 0 to 255",
        ),
        (spaces.Box(0, 255, (32, 32, 3), np.int16), np.full((32, 32, 3), 0.5), "of float64, its space declares int16"),
        (spaces.Box(-9, 9, (32, 32, 1), np.int16), np.full((32, 32, 1), 0.5), "of float64, its space declares int16"),
        (spaces.MultiBinary(2), np.array([7, -3]), "not in the space that it declares, 0 and 1"),
        (spaces.MultiDiscrete([2, 3]), np.array([0, 3]), "not in the space that it declares"),
        (spaces.MultiDiscrete([2, 3]), np.array([0, 1.7]), "not in the space that it declares"),
        (spaces.Discrete(3), np.nan, "not in the space that it declares"),
        (spaces.Box(-1, 1, (2,)), np.array(["a", "b"]), "an observation of type <U1, expected numbers"),
    ],
)
def test_an_observation_outside_of_its_space_blames_the_environment(space: Any, observation: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Own-v0: .*{message}"):
        preparation_of(space, RealEnvSpec("Own-v0")).prepare(observation)


def test_whole_numbers_of_any_type_are_a_picture_and_a_vector_may_leave_its_bounds() -> None:
    raw = picture(64, 64, 3)
    for dtype in (np.int64, np.uint16, np.int32):
        assert np.array_equal(prepared(spaces.Box(0, 255, (64, 64, 3), np.uint8), raw.astype(dtype)), raw)
    assert np.array_equal(prepared(spaces.Box(0, 255, (64, 64, 3), np.int16), raw), raw)
    beyond = preparation_of(spaces.Box(-1, 1, (2,)), RealEnvSpec("x")).prepare(np.array([5, 5]))
    assert beyond.tolist() == [5, 5]


def test_what_is_done_is_said() -> None:
    space = spaces.Box(0, 1, (4, 100, 80, 3), np.float32)
    assert preparation_of(space, RealEnvSpec("x", crop=(0, 80, 0, 80))).steps == (
        "the newest of a stack of pictures",
        "float32 from 0 to 1 scaled to 0..255",
        "crop (0, 80, 0, 80)",
        "picture of 100 rows and 80 columns, resized to 64 x 64",
    )
    assert preparation_of(spaces.Box(-1, 1, (3,)), RealEnvSpec("x")).steps == ()
