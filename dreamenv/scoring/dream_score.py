"""What an agent earns in the dream, by the same measure as in reality."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.base import Agent, check_spaces, observation_kind
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
        agent: Acts deterministically on the observation kind it reads; it keeps its own state within an episode.
        episodes: How many dreams.
        seed: Dream i is that of `reset(seed=seed + i)`.
        temperature: None takes the model's own.
        start: Start states, "initial" or "replay".

    Raises:
        ConfigurationError: No episodes, or start states that the model does not hold.
        SpaceMismatchError: The agent's spaces are not those of the model.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    envs = DreamVectorEnv(
        world_model,
        num_envs=episodes,
        observation=observation_kind(agent, world_model),
        temperature=temperature,
        start=start,
    )
    spaces = envs.single_observation_space, envs.single_action_space
    check_spaces(agent, *spaces, f"the model of {world_model.real.id}")
    observation, _ = envs.reset(seed=seed)
    total = np.zeros(episodes)
    alive, begins = np.ones(episodes, bool), np.ones(episodes, bool)
    state: Any = None
    with torch.inference_mode():
        while alive.any():
            action, state = agent.predict(observation, state, begins, True)
            begins = np.zeros(episodes, bool)
            observation, reward, terminated, truncated, _ = envs.step(action)
            total += np.where(alive, reward, 0.0)
            alive &= ~(terminated | truncated)
    envs.close()
    return total
