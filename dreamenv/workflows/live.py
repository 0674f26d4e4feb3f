"""Agents that learn, or only play, while their model still learns: the loop's at its finest grain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamenv.agents.actor_critic import ActorCriticAgent
from dreamenv.agents.exploration import AgentActor
from dreamenv.agents.imagination import Imagination, check_dream_length, frozen, new_actor_critic
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.resolve import resolve_agent
from dreamenv.agents.saved import save_agent
from dreamenv.data.explore import Actor, Noisy
from dreamenv.memory.states import select
from dreamenv.noise.base import as_noise, step_generator
from dreamenv.options import plain
from dreamenv.training.checkpoint import restore_training, training_tensors
from dreamenv.training.fit import Losses, Scalars, training_step
from dreamenv.world_model import WorldModel

# The share of steps with noise in an episode that explores, at any grain
NOISE = (0.1, 0.6)
_CLIP = 10.0


class LiveAgent(ABC):
    """An agent in a model that goes on learning.

    Args:
        model: V and M while they learn; the agent follows their weights.
    """

    def __init__(self, model: WorldModel) -> None:
        self._model = model

    @abstractmethod
    def update(self, states: Any, step: int) -> Scalars:
        """Learn in dreams that begin at some of M's states `[N]`; depends on weights, states and `step` alone.

        Raises:
            NonFiniteError: A loss became NaN or infinite.
        """

    @abstractmethod
    def actor(self, rng: np.random.Generator, *, greedy: bool) -> Actor:
        """What plays one real episode: as well as it can, or with what it explores by."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the agent as it is to `folder`, if there is anything to write."""

    def tensors(self) -> dict[str, Tensor]:
        """All that `load` needs to go on; nothing by default."""
        return {}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
        del tensors


class LiveActorCritic(LiveAgent):
    """Actor and critic in imagination; it explores by sampling its policy (Hafner et al. 2023).

    Args:
        model: As for `LiveAgent`.
        options: Hyperparameters; the shares of starts have no use here.
        seed: Of weights and dreams.
        checkpoint: File that errors name as the last good one.

    Raises:
        ConfigurationError: Dreams longer than the model's limit, or gradients through a memory that carries none.
    """

    def __init__(self, model: WorldModel, options: ImaginationOptions, *, seed: int, checkpoint: Path) -> None:
        super().__init__(model)
        check_dream_length(options.horizon, model.max_episode_steps, "the longest episode")
        self._options, self._seed, self._checkpoint = options, seed, checkpoint
        self._networks = new_actor_critic(model, options, seed=seed)
        self._optimiser = torch.optim.Adam(self._networks.parameters(), lr=options.learning_rate)
        temperature = model.temperature if options.temperature is None else options.temperature
        self._imagination = Imagination(model.memory, self._networks, options, temperature=temperature)

    def update(self, states: Any, step: int) -> Scalars:
        rows = np.random.default_rng([self._seed, step, 1]).permutation(len(states[0]))[: self._options.batch_size]
        device = self._model.device
        begin = select(states, torch.from_numpy(rows).to(device))

        def losses(number: int) -> Losses:
            return self._imagination.losses(begin, as_noise(step_generator(self._seed + 1, number, device)))

        with frozen(self._model.memory):
            return training_step(
                self._networks, losses, self._optimiser, step, device, torch.float32, _CLIP, self._checkpoint
            )

    def actor(self, rng: np.random.Generator, *, greedy: bool) -> Actor:
        resolved = resolve_agent(self._agent(int(rng.integers(2**31))), self._model)
        return AgentActor(self._model, resolved, "agent" if greedy else "agent, sampled", rng, deterministic=greedy)

    def save(self, folder: Path) -> None:
        agent = self._agent(0)
        agent.provenance = {
            "real_id": self._model.real.id,
            "real_frames": 0,  # it learns from what the model has learned from
            "trained_in": "dream",
            "settings": plain(self._options) | {"seed": self._seed},
        }
        save_agent(agent, folder)

    def tensors(self) -> dict[str, Tensor]:
        return training_tensors(self._networks, self._optimiser)

    def load(self, tensors: dict[str, Tensor]) -> None:
        restore_training(tensors, self._networks, self._optimiser)

    def _agent(self, seed: int) -> ActorCriticAgent:
        space = self._model.observation_space("features")
        return ActorCriticAgent(self._networks.actor, space, self._model.action_space, seed=seed)


class LivePlanner(LiveAgent):
    """A planner in the model as it is; it explores by noise on its actions.

    Args:
        model: As for `LiveAgent`.
        name: "planner:SCHEME,SETTING=VALUE".

    Raises:
        ConfigurationError: No such planner, or one that cannot plan in this model.
    """

    def __init__(self, model: WorldModel, name: str) -> None:
        super().__init__(model)
        self._name = name
        resolve_agent(name, model)

    def update(self, states: Any, step: int) -> Scalars:
        return {}

    def actor(self, rng: np.random.Generator, *, greedy: bool) -> Actor:
        actor = AgentActor(self._model, resolve_agent(self._name, self._model), self._name, rng)
        return Noisy(actor, self._model.action_space, rng, probability=(0.0, 0.0) if greedy else NOISE)

    def save(self, folder: Path) -> None:
        pass
