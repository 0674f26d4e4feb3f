"""Keys and sticks mean actions."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.play.controls import Controls, action_of, key_labels, keyboard_action

CAR = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))


@pytest.mark.parametrize(
    ("space", "keys", "wanted"),
    [
        (spaces.Discrete(3), set(), 0),
        (spaces.Discrete(3), {"RIGHT"}, 1),
        (spaces.Discrete(3), {"LEFT"}, 2),
        (spaces.Discrete(3), {"LEFT", "RIGHT"}, 0),
        (spaces.Discrete(6, start=1), {"4"}, 5),
        (spaces.Discrete(6), {"9"}, 0),
        (spaces.Discrete(6), {"5", "3"}, 3),
        (CAR, {"LEFT", "UP"}, [-1, 1, 0]),
        (CAR, {"DOWN"}, [0, 0, 1]),
        (spaces.Box(-2, 2, (1,)), {"RIGHT"}, [2]),
        (spaces.Box(-2, 2, (2,)), {"DOWN"}, [0, -2]),
        (spaces.Box(1, 3, (2,)), {"LEFT"}, [1, 1]),
        (UNBOUNDED, {"RIGHT", "DOWN"}, [1, -1]),
    ],
)
def test_keys_mean_actions(space: spaces.Space, keys: set[str], wanted: object) -> None:
    action = keyboard_action(space, keys)
    assert space.contains(action)
    np.testing.assert_array_equal(action, wanted)


@pytest.mark.parametrize(
    ("space", "controls", "wanted"),
    [
        (CAR, Controls(sideways=-0.5, forward=0.25), [-0.5, 0.25, 0]),
        (spaces.Box(-2, 2, (2,)), Controls(sideways=0.5, back=0.25), [1, -0.5]),
        (spaces.Discrete(3), Controls(sideways=0.7), 1),
        (spaces.Discrete(3), Controls(sideways=-0.4), 0),
    ],
)
def test_sticks_mean_shares_of_actions(space: spaces.Space, controls: Controls, wanted: object) -> None:
    action = action_of(space, controls)
    assert space.contains(action)
    np.testing.assert_allclose(action, wanted)


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Discrete(5), CAR, UNBOUNDED, spaces.Box(-1, 1, (1,))])
def test_every_labelled_key_does_something(space: spaces.Space) -> None:
    still = keyboard_action(space, set())
    labels = key_labels(space)
    assert all(labels.values())
    for key in labels:
        moved = keyboard_action(space, {key})
        assert key == "0" or not np.array_equal(moved, still)
