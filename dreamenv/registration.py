"""From registry.yaml to `gym.registry`: every dream and its latent twin under their ids."""

from __future__ import annotations

import math
from pathlib import Path

import gymnasium as gym

from dreamenv import registry
from dreamenv.errors import RegistryError
from dreamenv.registry import DreamEntry
from dreamenv.types import RealEnvSpec

DREAM_ENTRY_POINT = "dreamenv.envs:DreamEnv"
VECTOR_ENTRY_POINT = "dreamenv.envs:DreamVectorEnv"
LATENT_ENTRY_POINT = "dreamenv.envs:LatentEnv"
LATENT_VECTOR_ENTRY_POINT = "dreamenv.envs:latent_vector_env"
_OWN_ENTRY_POINTS = (DREAM_ENTRY_POINT, LATENT_ENTRY_POINT)


def register(path: str | Path) -> list[str]:
    """Make the dreams of the registry.yaml at `path` known to this package and to Gymnasium.

    A dream of the same id is replaced. The call reaches this process only; put the path into the environment variable
    `DREAMENV_REGISTRY` (several are joined by the system's path separator) for worker processes that are spawned.

    Returns:
        The ids registered, each dream followed by its latent twin.

    Raises:
        RegistryError: The file does not fit its schema, an id of it is that of another dream or of a real environment,
            or Gymnasium does not take it.
    """
    new = registry.read_registry(path)
    registry.check_ids(registry.entries(), new)
    for entry in new.values():
        _check_free(entry)
    ids = [name for entry in new.values() for name in _register_entry(entry)]
    registry.add_entries(new)
    return ids


def register_known() -> list[str]:
    """Register every dream that `registry.entries` knows: the shipped ones and those of `DREAMENV_REGISTRY`.

    What Gymnasium does not take is left out with a warning, as is a file that cannot be read.
    """
    return [name for entry in list(registry.entries().values()) for name in _register_if_possible(entry)]


def _register_if_possible(entry: DreamEntry) -> list[str]:
    try:
        _check_free(entry)
        return _register_entry(entry)
    except RegistryError as error:
        registry.leave_out(entry.id, error)
        return []


def _register_entry(entry: DreamEntry) -> list[str]:
    dream = entry.section.dream
    latent_id = entry.section.latent_id
    for name in (entry.id, latent_id):
        _forget_own(name)
    try:
        gym.register(
            entry.id,
            entry_point=DREAM_ENTRY_POINT,
            vector_entry_point=VECTOR_ENTRY_POINT,
            max_episode_steps=dream.max_episode_steps,
            kwargs={"world_model": entry.id, "temperature": dream.temperature, "start": dream.start},
        )
        gym.register(
            latent_id,
            entry_point=LATENT_ENTRY_POINT,
            vector_entry_point=LATENT_VECTOR_ENTRY_POINT,
            max_episode_steps=_actions_per_episode(entry.section.real.spec()),
            kwargs={"world_model": entry.id},
        )
    except gym.error.Error as error:
        raise RegistryError(f"{entry.id} / {latent_id}: Gymnasium does not take the id: {error}") from error
    return [entry.id, latent_id]


def _check_free(entry: DreamEntry) -> None:
    """Refuse ids that are those of real environments, whose place the dream would take in every score."""
    for name in (entry.id, entry.section.latent_id):
        known = gym.registry.get(name)
        if known is not None and known.entry_point not in _OWN_ENTRY_POINTS:
            raise RegistryError(
                f"{entry.source}: {name} is an environment of {known.entry_point}, which it would replace; give "
                f"{entry.id} or its latent twin another id"
            )


def _forget_own(name: str) -> None:
    """Gymnasium warns when an id is registered again; for ids of this package that is the purpose."""
    known = gym.registry.get(name)
    if known is not None and known.entry_point in _OWN_ENTRY_POINTS:
        del gym.registry[name]


def _actions_per_episode(real: RealEnvSpec) -> int | None:
    """Time limit of the real environment in actions; None when only the real environment itself knows it."""
    frames = real.max_episode_steps
    if frames is None:
        known = gym.registry.get(real.id)
        frames = known.max_episode_steps if known is not None else None
    return None if frames is None else math.ceil(frames / real.action_repeat)
