"""The dream that shows whether a library learns is what it says it is."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from tests.integrations.match_dream import BEST_RETURN, ID, LENGTH, RANDOM_RETURN


def test_a_right_guess_pays_and_a_wrong_one_ends(match_registry: Path) -> None:
    envs = gym.make_vec(ID, num_envs=200, autoreset_mode="SameStep")
    observations, _ = envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(3):
        assert set(np.sign(observations[:, 0])) == {-1.0, 1.0}
        actions = envs.action_space.sample()
        right = (observations[:, 0] > 0) == (actions == 1)
        assert 50 < right.sum() < 150
        observations, rewards, terminated, truncated, _ = envs.step(actions)
        np.testing.assert_allclose(rewards, right, atol=1e-3)
        assert np.array_equal(terminated, ~right)
        assert not truncated.any()


def test_best_and_random_return(match_registry: Path) -> None:
    envs = gym.make_vec(ID, num_envs=2000)
    observations, _ = envs.reset(seed=0)
    returns, alive = np.zeros(2000), np.ones(2000, bool)
    envs.action_space.seed(0)
    for _ in range(LENGTH):
        _, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
        returns += rewards * alive
        alive &= ~terminated
    assert returns.mean() == pytest.approx(RANDOM_RETURN, abs=0.1)
    observations, _ = envs.reset(seed=1)
    returns = np.zeros(2000)
    for step in range(LENGTH):
        observations, rewards, terminated, truncated, _ = envs.step((observations[:, 0] > 0).astype(np.int64))
        returns += rewards
        assert not terminated.any()
        assert truncated.all() == (step == LENGTH - 1)
    np.testing.assert_allclose(returns, BEST_RETURN, rtol=1e-3)
