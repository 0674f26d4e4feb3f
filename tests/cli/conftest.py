"""A bundle that the verbs can show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.agents import LinearController, initial_weights, save_agent
from dreamenv.types import RealEnvSpec
from tests.colour_env import ColourEnv
from tests.fakes import trained_like_world_model


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    gym.register("Colour-v0", entry_point=ColourEnv)
    model = trained_like_world_model(action_space=spaces.Discrete(3), real=RealEnvSpec("Colour-v0"))
    folder = tmp_path / "bundle"
    model.provenance = {"real_frames": 1234, "score": {"mean": 750.4, "std": 12.0, "episodes": 100}}
    model.save(folder)
    weights = np.zeros(initial_weights(model).shape)
    agent = LinearController(weights, model.observation_space(), model.action_space, provenance={"real_frames": 66})
    save_agent(agent, folder)
    yield folder
    del gym.registry["Colour-v0"]
