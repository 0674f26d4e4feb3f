from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.agents import ActionMap, LinearController, RandomAgent, check_spaces
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError

FEATURES = spaces.Box(-np.inf, np.inf, (3,), np.float32)
BOX = spaces.Box(np.array([-1.0, 0.0, 0.0], np.float32), np.array([1.0, 2.0, 1.0], np.float32))
CHOICE = spaces.Discrete(3, start=2)


def test_box_actions_are_the_squashed_linear_map() -> None:
    weights = np.random.default_rng(0).normal(size=(3, 4))
    features = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    action, state = LinearController(weights, FEATURES, BOX).predict(features)
    share = (np.tanh(features @ weights[:, :3].T + weights[:, 3]) + 1) / 2
    np.testing.assert_allclose(action, BOX.low + (BOX.high - BOX.low) * share, rtol=1e-5)
    assert state is None
    assert action.dtype == np.float32
    assert all(BOX.contains(row) for row in action)


def test_discrete_actions_are_the_largest_output() -> None:
    weights = np.zeros((3, 4))
    weights[:, 0] = [1, 0, -1]
    controller = LinearController(weights, FEATURES, CHOICE)
    action, _ = controller.predict(np.array([[1, 0, 0], [-1, 0, 0]], np.float32))
    assert action.tolist() == [2, 4]
    assert action.dtype == np.int64
    assert controller.parameter_count == 12


def test_single_observation_gives_single_action() -> None:
    features = np.ones(3, np.float32)
    for space in (BOX, CHOICE):
        controller = LinearController(np.ones((3, 4)), FEATURES, space)
        single, _ = controller.predict(features)
        batch, _ = controller.predict(features[None])
        assert single.shape == space.shape
        np.testing.assert_array_equal(single, batch[0])


def test_saturated_actions_stay_inside_the_space() -> None:
    space = spaces.Box(np.array([-0.1, 0.1]), np.array([0.3, 0.7]), dtype=np.float64)
    controller = LinearController(np.array([[0, 0, 0, 99], [0, 0, 0, -99]]), FEATURES, space)
    action, _ = controller.predict(np.zeros(3))
    assert space.contains(action)
    np.testing.assert_allclose(action, [0.3, 0.1])


def test_throttle_never_presses_both() -> None:
    pedals = ActionMap(BOX, "throttle")
    assert pedals.outputs == 2
    action = pedals(torch.tensor([[0.0, 99.0], [0.0, -99.0], [99.0, 0.0], [0.0, 0.5]]))
    half = np.tanh(0.5)
    np.testing.assert_allclose(action.numpy(), [[0, 2, 0], [0, 0, 1], [1, 0, 0], [0, 2 * half, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("space", "kind", "message"),
    [
        (BOX, "throtle", "Did you mean throttle"),
        (BOX, "argmax", "takes 'squash' or 'throttle'"),
        (CHOICE, "squash", "takes 'argmax'"),
        (spaces.Box(-1, 1, (1,)), "throttle", "at least two"),
        (spaces.Box(-np.inf, 1, (2,)), None, "no finite bounds"),
        (spaces.Box(0, 9, (2,), np.int64), None, "floating"),
        (spaces.MultiBinary(3), None, "Discrete or one-dimensional Box"),
    ],
)
def test_action_maps_that_do_not_fit(space: gym.Space[Any], kind: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ActionMap(space, kind)


def test_bad_weights_and_observations() -> None:
    with pytest.raises(SpaceMismatchError, match=r"got weights of shape \(3, 3\); \(3, 4\) fit 3 inputs"):
        LinearController(np.zeros((3, 3)), FEATURES, BOX)
    with pytest.raises(NonFiniteError):
        LinearController(np.full((3, 4), np.nan), FEATURES, BOX)
    with pytest.raises(ConfigurationError, match="'features' or 'latent'"):
        LinearController(np.zeros((3, 4)), FEATURES, BOX, observation="pixels")
    controller = LinearController(np.zeros((3, 4)), FEATURES, BOX)
    with pytest.raises(SpaceMismatchError, match=r"shape \(4,\); this agent reads \(3,\)"):
        controller.predict(np.zeros(4))
    with pytest.raises(NonFiniteError):
        controller.predict(np.full(3, np.nan))


def test_a_controller_keeps_its_own_copy_of_the_weights() -> None:
    weights = np.ones((3, 4), np.float32)
    controller = LinearController(weights, FEATURES, BOX)
    weights[:] = 0
    assert controller.predict(np.zeros(3))[0][0] == pytest.approx(np.tanh(1))


@pytest.mark.parametrize("space", [BOX, CHOICE])
def test_random_agent_covers_the_space_and_repeats_with_its_seed(space: gym.Space[Any]) -> None:
    first, again, other = (RandomAgent(FEATURES, space, generator=seed) for seed in (5, 5, 6))
    actions, _ = first.predict(np.zeros((2000, 3)))
    assert all(space.contains(action) for action in actions)
    np.testing.assert_array_equal(actions, again.predict(np.zeros((2000, 3)))[0])
    assert not np.array_equal(actions, other.predict(np.zeros((2000, 3)))[0])
    middle = (BOX.low + BOX.high) / 2 if space is BOX else 3
    np.testing.assert_allclose(actions.mean(axis=0), middle, atol=0.1)
    assert first.predict(np.zeros(3))[0].shape == space.shape


def test_check_spaces_shows_both() -> None:
    agent = LinearController(np.zeros((3, 4)), FEATURES, BOX)
    check_spaces(agent, FEATURES, BOX, "the dream")
    with pytest.raises(SpaceMismatchError, match=r"agent has Box\(.*\), the dream has Discrete\(3"):
        check_spaces(agent, FEATURES, CHOICE, "the dream")
    with pytest.raises(SpaceMismatchError, match=r"shape=\(3,\), float32\), the dream has Box\(.*shape=\(9,\)"):
        check_spaces(agent, spaces.Box(-np.inf, np.inf, (9,), np.float32), BOX, "the dream")
