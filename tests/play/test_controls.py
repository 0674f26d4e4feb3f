"""Keys and sticks mean actions."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv import registry
from dreamenv.errors import ConfigurationError
from dreamenv.play.controls import Hands, KeyMap
from dreamenv.types import DIGITS, Control

CAR = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))
UNBOUNDED = spaces.Box(-np.inf, np.inf, (2,))
DOOM = spaces.Discrete(3)
DRIVING, DODGING = (registry.find(name).section.real.spec().controls for name in ("DreamCarRacing-v0", "DreamDoom-v0"))


@pytest.mark.parametrize(
    ("space", "controls", "keys", "wanted"),
    [
        (DOOM, DODGING, set(), 0),
        (DOOM, DODGING, {"RIGHT"}, 1),
        (DOOM, DODGING, {"LEFT"}, 2),
        (DOOM, DODGING, {"LEFT", "RIGHT"}, 0),
        (DOOM, DODGING, {"2", "UP"}, 0),
        (DOOM, {}, {"2"}, 2),
        (DOOM, {}, {"RIGHT"}, 0),
        (spaces.Discrete(6, start=1), {}, {"4"}, 5),
        (spaces.Discrete(6), {}, {"9"}, 0),
        (spaces.Discrete(6), {}, {"5", "3"}, 3),
        (CAR, DRIVING, {"LEFT", "UP"}, [-1, 1, 0]),
        (CAR, DRIVING, {"UP", "DOWN"}, [0, 1, 1]),
        (CAR, DRIVING, {"DOWN"}, [0, 0, 1]),
        (CAR, {}, {"LEFT", "UP", "DOWN"}, [-1, 1, 0]),
        (spaces.Box(-2, 2, (1,)), {}, {"RIGHT"}, [2]),
        (spaces.Box(-2, 2, (2,)), {}, {"DOWN"}, [0, -2]),
        (spaces.Box(1, 3, (2,)), {}, {"LEFT"}, [1, 1]),
        (UNBOUNDED, {}, {"RIGHT", "DOWN"}, [1, -1]),
    ],
)
def test_keys_mean_actions(space: spaces.Space, controls: dict[str, Control], keys: set[str], wanted: object) -> None:
    action = KeyMap(space, controls).action(Hands.of_keys(keys))
    assert space.contains(action)
    np.testing.assert_array_equal(action, wanted)


@pytest.mark.parametrize(
    ("space", "controls", "hands", "wanted"),
    [
        (CAR, DRIVING, Hands(sideways=-0.5, forward=0.25), [-0.5, 0.25, 0]),
        (spaces.Box(-2, 2, (2,)), {}, Hands(sideways=0.5, back=0.25), [1, -0.5]),
        (DOOM, DODGING, Hands(sideways=0.7), 1),
        (DOOM, DODGING, Hands(sideways=-0.4), 0),
        (DOOM, {"LEFT": Control("left", 0), "UP": Control("up", 1)}, Hands(sideways=-0.6, forward=0.9), 1),
    ],
)
def test_sticks_mean_shares_of_actions(
    space: spaces.Space, controls: dict[str, Control], hands: Hands, wanted: object
) -> None:
    action = KeyMap(space, controls).action(hands)
    assert space.contains(action)
    np.testing.assert_allclose(action, wanted)


def test_no_key_held_has_an_action_of_its_own() -> None:
    """MountainCar's action 1 is no push; a Box's keys are changes of the action that holds without them."""
    push = {"LEFT": Control("left", 0), "RIGHT": Control("right", 2), "NONE": Control("no push", 1)}
    keys = KeyMap(spaces.Discrete(3), push)
    assert [keys.action(hands) for hands in (Hands(-1.0), Hands(), Hands(1.0))] == [0, 1, 2]
    assert keys.labels == {"LEFT": "left", "RIGHT": "right"}
    gas = {"NONE": Control("roll", (0.0, 0.4)), "LEFT": Control("left", (-1.0, 0.4)), "UP": Control("gas", (0.0, 1.0))}
    keys = KeyMap(UNBOUNDED, gas)
    np.testing.assert_allclose(keys.action(Hands()), [0, 0.4])
    np.testing.assert_allclose(keys.action(Hands(sideways=-0.5, forward=1.0)), [-0.5, 1.0])


@pytest.mark.parametrize(
    ("space", "controls", "message"),
    [
        (DOOM, {"LEFT": Control("left", 3)}, r"LEFT is action 3, which is not one of Discrete\(3\)"),
        (DOOM, {"LEFT": Control("left", (1.0, 2.0))}, "LEFT is action"),
        (CAR, {"UP": Control("gas", (0.0, 2.0, 0.0))}, "UP is action"),
        (CAR, {"UP": Control("gas", (1.0,))}, "UP is action"),
        (CAR, {"NONE": Control("roll", (1.0,))}, "NONE is action"),
        (DOOM, {"LEFTT": Control("left", 1)}, "unknown key 'LEFTT'. Did you mean LEFT"),
    ],
)
def test_controls_that_do_not_fit_the_space_are_refused(
    space: spaces.Space, controls: dict[str, Control], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        KeyMap(space, controls)


@pytest.mark.parametrize(
    ("space", "controls"),
    [
        (DOOM, DODGING),
        (CAR, DRIVING),
        (CAR, {}),
        (spaces.Discrete(3), {}),
        (spaces.Discrete(12, start=-2), {}),
        (UNBOUNDED, {}),
        (spaces.Box(-1, 1, (1,)), {}),
    ],
)
def test_every_labelled_key_does_something(space: spaces.Space, controls: dict[str, Control]) -> None:
    keys = KeyMap(space, controls)
    still = keys.action(Hands())
    assert keys.labels
    assert all(keys.labels.values())
    for key in keys.labels:
        moved = keys.action(Hands.of_keys({key}))
        assert (key == DIGITS[0]) == np.array_equal(moved, still)
