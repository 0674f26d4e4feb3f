"""Curiosity as a reward: what the members of an ensemble disagree on is paid for."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError

_NAME = "disagreement"


class DisagreementBonus(gym.Wrapper[Any, Any, Any, Any]):
    """Pays `reward` times the environment's reward plus `bonus` times the disagreement of the step (Pathak, Gandhi &
    Gupta 2019, "Self-supervised exploration via disagreement"; there the variance, here the standard deviation).

    For dreams of an ensemble and for their real twins, whose `info` holds `disagreement`; the environment's own reward
    is added to it as `task_reward`.

    Args:
        env: The environment.
        bonus: Reward for a disagreement of 1, which is a standard deviation of a step's change.
        reward: Weight of the environment's reward.

    Raises:
        ConfigurationError: A weight that is not finite, or an environment whose model cannot disagree.
    """

    def __init__(self, env: gym.Env[Any, Any], bonus: float = 1.0, *, reward: float = 1.0) -> None:
        super().__init__(env)
        _check(env, bonus, reward)
        self.bonus, self.reward = bonus, reward

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's, with another reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        paid = self.reward * float(reward) + self.bonus * float(info[_NAME])
        return observation, paid, terminated, truncated, {**info, "task_reward": float(reward)}


class VectorDisagreementBonus(VectorWrapper):
    """`DisagreementBonus` of N environments; rows in which no step was taken are paid nothing more.

    Args:
        env, bonus, reward: As for `DisagreementBonus`.

    Raises:
        ConfigurationError: As there.
    """

    def __init__(self, env: VectorEnv, bonus: float = 1.0, *, reward: float = 1.0) -> None:
        super().__init__(env)
        _check(env, bonus, reward)
        self.bonus, self.reward = bonus, reward

    def step(
        self, actions: Any
    ) -> tuple[Any, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """As the environments', with other rewards."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        apart = np.zeros(self.num_envs)
        # With autoreset in the same step, what ended has its figures among the final ones
        for found in (infos, infos.get("final_info", {})):
            if _NAME in found:
                mask = found[f"_{_NAME}"]
                apart[mask] = found[_NAME][mask]
        rewards = np.asarray(rewards, np.float64)
        paid = self.reward * rewards + self.bonus * apart
        return observations, paid, terminated, truncated, {**infos, "task_reward": rewards}


def _check(env: Any, bonus: float, reward: float) -> None:
    if not all(isinstance(each, (int, float, np.number)) and math.isfinite(each) for each in (bonus, reward)):
        raise ConfigurationError(f"bonus and reward must be finite, got {bonus!r} and {reward!r}")
    first = env.unwrapped
    first = first.envs[0].unwrapped if hasattr(first, "envs") else first
    model = getattr(first, "world_model", None)
    if model is None or _NAME not in model.memory.figures:
        kind = type(first).__name__ if model is None else type(model.memory).__name__
        raise ConfigurationError(
            f"{kind} has no members that could disagree: a bonus for disagreement needs a dream of an ensemble, or its "
            "real twin (dreamenv train --recipe ensemble)"
        )
