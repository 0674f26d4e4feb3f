"""What an agent earns in the dream, by the same measure as in reality."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.resolve import AnyAgent, resolve_agent
from dreamenv.envs.dream_vector_env import DreamVectorEnv
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError
from dreamenv.scoring.play import play
from dreamenv.types import Start
from dreamenv.world_model import WorldModel


def dream_returns(
    world_model: WorldModel | str | Path,
    agent: AnyAgent,
    *,
    episodes: int = 64,
    seed: int = 0,
    temperature: float | None = None,
    start: Start = "initial",
) -> NDArray[np.float64]:
    """Undiscounted returns `[episodes]` of whole dreams up to their end or the time limit, all dreamed together.

    Args:
        world_model: The dream, its id or its folder.
        agent: An agent or its name, as for `resolve_agent`; it acts deterministically and keeps its own state within an
            episode.
        episodes: How many dreams.
        seed: Dream i is that of `reset(seed=seed + i)`.
        temperature: None takes the model's own.
        start: "first", "initial" or "replay"; see `DreamEnv`.

    Raises:
        ConfigurationError: No episodes, or start states that the model does not hold.
        SpaceMismatchError: The agent's spaces are not those of the model.
    """
    model = open_world_model(world_model)
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    player = resolve_agent(agent, model)
    envs = DreamVectorEnv(
        model, num_envs=episodes, observation=player.observation, temperature=temperature, start=start
    )
    total, alive = np.zeros(episodes), np.ones(episodes, bool)
    with torch.inference_mode(), closing(envs):
        for moment in play(envs, player.of_episode(seed), seed=seed):
            total += np.where(alive, moment.reward, 0.0)
            alive &= ~np.logical_or(moment.terminated, moment.truncated)
    return total
