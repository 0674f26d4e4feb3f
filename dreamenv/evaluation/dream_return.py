"""What an agent earns in the dream, by the same measure as in reality."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.base import Agent
from dreamenv.envs.dream_vector_env import DreamVectorEnv
from dreamenv.errors import ConfigurationError
from dreamenv.world_model import WorldModel


def dream_returns(
    world_model: WorldModel,
    agent: Agent,
    *,
    episodes: int = 64,
    seed: int = 0,
    temperature: float | None = None,
    start: str = "initial",
) -> NDArray[np.float64]:
    """Undiscounted returns `[episodes]` of whole dreams up to their end or the time limit, all dreamed together.

    Args:
        world_model: The dream.
        agent: Acts deterministically on the observation kind it reads.
        episodes: How many dreams.
        seed: Dream i is that of `reset(seed=seed + i)`.
        temperature: None takes the model's own.
        start: Start states, "initial" or "replay".
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    envs = DreamVectorEnv(
        world_model,
        num_envs=episodes,
        observation=getattr(agent, "observation", "features"),
        temperature=temperature,
        start=start,
    )
    observation, _ = envs.reset(seed=seed)
    total = np.zeros(episodes)
    alive = np.ones(episodes, bool)
    with torch.inference_mode():
        while alive.any():
            action, _ = agent.predict(observation, None, None, True)
            observation, reward, terminated, truncated, _ = envs.step(action)
            total += np.where(alive, reward, 0.0)
            alive &= ~(terminated | truncated)
    envs.close()
    return total
