"""Off-policy algorithms learn the known optimum of a small dream from several dreams at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from torch import Tensor

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, SAC

from dreamenv.agents.base import Agent
from dreamenv.memory.base import Prediction
from dreamenv.noise.base import Noise
from dreamenv.sb3 import DreamVecEnv
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import MOVE, TARGET, PlaceState, TargetMemory, small_dream

STRIDE = 0.25
DIRECTIONS = spaces.Discrete(3)


class StridesMemory(TargetMemory):
    """`TargetMemory` in strides: actions go down, stay, or go up."""

    def imagine(
        self, state: PlaceState, action: Tensor, *, noise: Any | Noise, temperature: float = 1.0
    ) -> tuple[PlaceState, Prediction]:
        move = STRIDE * (action.float() - 1).unsqueeze(1)
        return super().imagine(state, move, noise=noise, temperature=temperature)


class Best:
    """Goes to the target as straight as the actions let it."""

    def __init__(self, model: WorldModel) -> None:
        self.observation_space = model.observation_space()
        self.action_space = model.action_space

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> Any:
        way = TARGET - observation
        if isinstance(self.action_space, spaces.Box):
            return way.clip(self.action_space.low, self.action_space.high), state
        return np.rint(way / STRIDE).clip(-1, 1).astype(np.int64)[:, 0] + 1, state


def mean_return(model: WorldModel, agent: Agent) -> float:
    return float(dream_returns(model, agent, episodes=41).mean())


def test_dqn_finds_the_way() -> None:
    model = small_dream(StridesMemory(), DIRECTIONS)
    agent = DQN(
        "MlpPolicy",
        DreamVecEnv(model, 8),
        learning_rate=3e-3,
        buffer_size=4_000,
        learning_starts=400,
        batch_size=128,
        gamma=0.7,
        train_freq=4,
        gradient_steps=8,
        target_update_interval=100,
        exploration_fraction=0.5,
        policy_kwargs={"net_arch": [32]},
        seed=0,
        device="cpu",
    )
    best, before = mean_return(model, Best(model)), mean_return(model, agent)
    agent.learn(3_200)
    after = mean_return(model, agent)
    assert before < best - 1
    assert after > best - 0.1


def test_sac_finds_the_way() -> None:
    model = small_dream(TargetMemory(), MOVE)
    agent = SAC(
        "MlpPolicy",
        DreamVecEnv(model, 8),
        learning_rate=5e-3,
        buffer_size=4_000,
        learning_starts=400,
        batch_size=128,
        gamma=0.7,
        train_freq=4,
        gradient_steps=8,
        tau=0.02,
        policy_kwargs={"net_arch": [32]},
        seed=0,
        device="cpu",
    )
    best, before = mean_return(model, Best(model)), mean_return(model, agent)
    agent.learn(2_400)
    after = mean_return(model, agent)
    assert before < best - 1
    assert after > best - 0.1
