"""A memory and an agent that the package does not know. Worker processes import this module."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from dreamenv.agents.controller import LinearController
from dreamenv.agents.kinds import AGENTS, register_agent
from dreamenv.agents.saved import save_agent
from dreamenv.memory.kinds import MEMORIES, register_memory
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.fakes import NoisyMemory, fake_world_model

TORQUE = spaces.Box(-2, 2, (1,), np.float32)
PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=5)


class DrawnMemory(NoisyMemory):
    """Its features hold a number that is drawn when an episode begins, in the dream and in reality."""

    def __init__(self, action_space: gym.Space[Any]) -> None:
        super().__init__(3)

    def config(self) -> dict[str, Any]:
        return {"kind": "drawn"}


class SpyAgent(LinearController):
    """A linear controller that notes what it is shown."""

    kind = "spy"
    seen: list[np.ndarray] = []  # of all of them, however they were loaded

    def predict(self, observation: Any, *arguments: Any, **options: Any) -> Any:
        SpyAgent.seen.append(np.array(observation))
        return super().predict(observation, *arguments, **options)


@contextmanager
def own_kinds() -> Iterator[None]:
    """Within it, both are registered."""
    register_memory("drawn", DrawnMemory)
    register_agent("spy", SpyAgent)
    try:
        yield
    finally:
        del MEMORIES._added["drawn"], AGENTS._added["spy"]


def drawn_model() -> WorldModel:
    """A model of a short Pendulum."""
    model = fake_world_model(DrawnMemory(TORQUE), action_space=TORQUE)
    model.real = PENDULUM
    return model


def spy_agent(model: WorldModel) -> SpyAgent:
    """An agent for `drawn_model`, whose actions depend on all that it sees."""
    weights = np.linspace(-0.5, 1, 6, dtype=np.float32)[None]
    return SpyAgent(weights, model.observation_space(), model.action_space)


def write_own_bundle(folder: Path) -> Path:
    """Both in a folder."""
    model = drawn_model()
    model.save(folder)
    save_agent(spy_agent(model), folder)
    return folder
