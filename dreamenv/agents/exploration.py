"""Exploration policies that see the real environment through a world model."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.controller import LinearController
from dreamenv.agents.mpc import split_guide, with_guide
from dreamenv.agents.places import agent_file_of
from dreamenv.agents.population import weight_shape
from dreamenv.agents.resolve import ResolvedAgent, find_agent_file, resolve_agent
from dreamenv.bundle import resolve_bundle
from dreamenv.data.explore import Actor, Noisy, Range, checked_range, reading_files
from dreamenv.envs.latent_observation import LatentObservation
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import SpaceMismatchError
from dreamenv.workers import Parcel
from dreamenv.world_model import WorldModel


class AgentActor(Actor):
    """An agent that looks at the real environment as it does everywhere else: through `LatentObservation`."""

    def __init__(
        self,
        model: WorldModel,
        agent: ResolvedAgent,
        name: str,
        rng: np.random.Generator,
        *,
        deterministic: bool = True,
    ) -> None:
        """`rng` is drawn from for a blind agent alone; `deterministic` as for the agent's `predict`."""
        self.name, self._deterministic = name, deterministic
        self._model, self._kind = model, agent.observation
        self._agent = agent.of_episode(int(rng.integers(2**63)) if agent.blind else 0)
        self._state: Any = None
        self._begins = np.ones(1, np.bool_)

    def view(self, env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        return LatentObservation(env, self._model, observation=self._kind, predicts=False)

    def act(self, observation: NDArray[Any]) -> Any:
        action, self._state = self._agent.predict(observation, self._state, self._begins, self._deterministic)
        self._begins = np.zeros(1, np.bool_)
        return action


def _packed(kwargs: dict[str, Any]) -> dict[str, Any]:
    """`kwargs` with the files of world model, agent and guide."""
    packed = kwargs | {"world_model": Parcel.of(resolve_bundle(kwargs["world_model"])[0])}
    if "agent" not in kwargs:
        return packed
    file = find_agent_file(kwargs["agent"])
    if file is not None:
        return packed | {"agent": Parcel.of(file)}
    alone, guide = split_guide(kwargs["agent"])
    return packed if guide is None else packed | {"agent": alone, "guide": Parcel.of(agent_file_of(guide))}


@reading_files(_packed)
def agent_with_noise(
    action_space: gym.Space[Any],
    rng: np.random.Generator,
    *,
    world_model: str,
    agent: str,
    algo: str | None = None,
    guide: str | None = None,
    probability: Range = (0.0, 0.3),
    stay: float = 0.8,
    scale: Range = (0.1, 0.5),
) -> Actor:
    """The agent called `agent` (see `load_agent`), seeing through `world_model`, with the noise of `Noisy`.

    `algo` is the algorithm of stable-baselines3 that saved it, if one did, and `guide` that of a planner; its name may
    say it too.

    Raises:
        UnknownDreamError, BundleError, ConfigurationError: Model or agent cannot be loaded.
        SpaceMismatchError: The agent's spaces are not those of the model and the real environment.
    """
    model = _open(world_model, action_space)
    actor = AgentActor(model, resolve_agent(with_guide(agent, guide), model, algo=algo), "agent", rng)
    return Noisy(actor, action_space, rng, probability=probability, stay=stay, scale=scale)


@reading_files(_packed)
def random_linear(
    action_space: gym.Space[Any], rng: np.random.Generator, *, world_model: str, scale: Range = (0.01, 0.3)
) -> Actor:
    """A linear controller on [z, h] whose weights are drawn anew each episode: N(0, s²), s drawn from `scale`."""
    deviation = rng.uniform(*checked_range("scale", scale, 0.0, np.inf))
    model = _open(world_model, action_space)
    outputs, inputs = weight_shape(model)
    weights = rng.normal(scale=deviation, size=(outputs, inputs)).astype(np.float32)
    controller = LinearController(weights, model.observation_space(), action_space)
    actor = AgentActor(model, resolve_agent(controller, model), "random_linear", rng)
    return Noisy(actor, action_space, rng, probability=(0.0, 0.0))


def _open(world_model: str, action_space: gym.Space[Any]) -> WorldModel:
    """The model, read once for all episodes as long as its files stay the same."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # in a worker: there is one for each core already
    model = open_world_model(world_model)
    if model.action_space != action_space:
        raise SpaceMismatchError(
            f"action spaces differ: the model {world_model} has {model.action_space}, the real environment "
            f"{action_space}. Take a model of this environment."
        )
    return model


FACTORIES: dict[str, Callable[..., Actor]] = {"agent": agent_with_noise, "random_linear": random_linear}
