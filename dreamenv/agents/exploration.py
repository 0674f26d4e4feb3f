"""Exploration policies that see the real environment through a world model."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.base import Agent, check_spaces, observation_kind
from dreamenv.agents.controller import LinearController
from dreamenv.agents.mpc import PREFIX
from dreamenv.agents.population import weight_shape
from dreamenv.agents.resolve import AGENT_FILE, load_agent
from dreamenv.bundle import resolve_bundle
from dreamenv.data.explore import Actor, Noisy, Range, checked_range
from dreamenv.world_model import WorldModel


class _Seeing:
    """Feeds V and M with what the real environment shows and asks the agent."""

    def __init__(self, model: WorldModel, agent: Agent, kind: str) -> None:
        self._model, self._agent, self._kind = model, agent, kind
        self._generator = torch.Generator().manual_seed(0)  # drawn from only where M has dropout in the dream
        self._state: Any = None
        self._agent_state: Any = None

    def __call__(self, observation: NDArray[Any], executed: Any) -> Any:
        with torch.inference_mode():
            latent = self._model.vision.encode(torch.from_numpy(observation[None]))
            if executed is None:  # an episode begins
                self._state = self._model.memory.initial(latent, noise=self._generator)
            else:
                action = torch.from_numpy(np.asarray(executed)[None])
                self._state, _ = self._model.memory.observe(self._state, action, latent, noise=self._generator)
            seen = self._model.observation(self._state, self._kind)[0].numpy()
        chosen, self._agent_state = self._agent.predict(seen, self._agent_state, None, True)
        return chosen


# Every episode asks for them; a file that has been written anew since is loaded anew.
def _model(id_or_path: str) -> WorldModel:
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # in a worker: there is one for each core already
    return _load_model(id_or_path, _written(resolve_bundle(id_or_path)[0] / "model.safetensors"))


def _agent(name: str, algo: str | None, model: WorldModel) -> Agent:
    if name.startswith(PREFIX):
        return load_agent(name, algo=algo, world_model=model)
    path = Path(name)
    file = path if path.is_file() or algo is not None else resolve_bundle(name)[0] / AGENT_FILE
    return _load_agent(name, algo, _written(file))


def _written(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


@lru_cache(maxsize=4)
def _load_model(id_or_path: str, written: int) -> WorldModel:
    return WorldModel.load(id_or_path)


@lru_cache(maxsize=4)
def _load_agent(id_or_path: str, algo: str | None, written: int) -> Agent:
    return load_agent(id_or_path, algo=algo)


def agent_with_noise(
    action_space: gym.Space[Any],
    rng: np.random.Generator,
    *,
    world_model: str,
    agent: str,
    algo: str | None = None,
    probability: Range = (0.0, 0.3),
    stay: float = 0.8,
    scale: Range = (0.1, 0.5),
) -> Actor:
    """The agent called `agent` (see `load_agent`), seeing through `world_model`, with the noise of `Noisy`.

    `algo` is the algorithm of stable-baselines3 that saved it, if one did.

    Raises:
        UnknownDreamError, BundleError, ConfigurationError: Model or agent cannot be loaded.
        SpaceMismatchError: The agent's spaces are not those of the model and the real environment.
    """
    model = _model(world_model)
    player = _agent(agent, algo, model)
    kind = observation_kind(player, model)
    check_spaces(player, model.observation_space(kind), action_space, f"the model {world_model}")
    seeing = _Seeing(model, player, kind)
    return Noisy(seeing, "agent", action_space, rng, probability=probability, stay=stay, scale=scale)


def random_linear(
    action_space: gym.Space[Any], rng: np.random.Generator, *, world_model: str, scale: Range = (0.01, 0.3)
) -> Actor:
    """A linear controller on [z, h] whose weights are drawn anew each episode: N(0, s²), s drawn from `scale`."""
    model = _model(world_model)
    outputs, inputs = weight_shape(model)
    deviation = rng.uniform(*checked_range("scale", scale, 0.0, np.inf))
    weights = rng.normal(scale=deviation, size=(outputs, inputs)).astype(np.float32)
    controller = LinearController(weights, model.observation_space(), action_space)
    return Noisy(_Seeing(model, controller, "features"), "random_linear", action_space, rng, probability=(0.0, 0.0))


FACTORIES: dict[str, Callable[..., Actor]] = {"agent": agent_with_noise, "random_linear": random_linear}
