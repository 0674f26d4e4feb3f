"""N latent twins of a dream as one Gymnasium vector environment."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from dreamenv.envs.arguments import checked_autoreset_mode
from dreamenv.envs.latent_observation import LatentEnv
from dreamenv.world_model import WorldModel


def latent_vector_env(
    world_model: WorldModel | str | Path,
    num_envs: int = 1,
    *,
    max_episode_steps: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **options: Any,
) -> SyncVectorEnv:
    """N `LatentEnv` in turn, as `gym.make_vec` builds them: it takes what `DreamVectorEnv` takes.

    Args:
        world_model: The model, a registered id, or a bundle's folder.
        num_envs: N.
        max_episode_steps: Actions until an episode is truncated; None leaves it to the real environment.
        autoreset_mode: As for `DreamVectorEnv`.
        options: Further keyword arguments of `LatentEnv`.

    Raises:
        ConfigurationError: An autoreset mode that Gymnasium does not have.
        MissingExtraError: The real environment's package is not installed.
    """
    mode = checked_autoreset_mode(autoreset_mode)
    make = partial(_make, world_model, max_episode_steps, options)
    return SyncVectorEnv([make] * num_envs, autoreset_mode=mode)


def _make(
    world_model: WorldModel | str | Path, max_episode_steps: int | None, options: dict[str, Any]
) -> gym.Env[Any, Any]:
    env = LatentEnv(world_model, **options)
    return env if max_episode_steps is None else TimeLimit(env, max_episode_steps)
