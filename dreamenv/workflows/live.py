"""Agents that learn, or only play, while their model still learns: the loop's at its finest grain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.agents.actor_critic import Actor as ActorNetwork
from dreamenv.agents.actor_critic import Critic
from dreamenv.agents.exploration import AgentActor
from dreamenv.agents.imagination import (
    Imagination,
    agent_of,
    check_dream_length,
    frozen,
    new_actor_critic,
    warn_beyond_bound,
)
from dreamenv.agents.mpc import MPCAgent, guidable, mpc_agent, planner_called
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.agents.resolve import resolve_agent
from dreamenv.agents.saved import save_agent
from dreamenv.data.explore import Actor, Noisy
from dreamenv.memory.states import select
from dreamenv.noise.base import as_noise
from dreamenv.options import plain
from dreamenv.training.checkpoint import restore_training, training_tensors
from dreamenv.training.fit import Losses, Scalars
from dreamenv.training.replay import Replayed, Windows
from dreamenv.training.steps import RepeatedStep, Tensors
from dreamenv.world_model import WorldModel

# The share of steps with noise in an episode that explores, at any grain
NOISE = (0.1, 0.6)
_CLIP = 10.0

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class LivePlayer(ABC):
    """A live agent at one moment, without what it learns with; it can be pickled."""

    @property
    def label(self) -> str:
        """The policy that its episodes are recorded with."""
        return "agent"

    @abstractmethod
    def actor(self, model: WorldModel, rng: np.random.Generator, *, greedy: bool) -> Actor:
        """What plays one real episode, seeing through `model`: as well as it can, or with what it explores by."""

    def planner(self, model: WorldModel) -> MPCAgent | None:
        """What decides for several episodes at once; None (the default) where that gains nothing."""
        del model
        return None

    def exploring(self, chosen: Actor, model: WorldModel, rng: np.random.Generator, *, greedy: bool) -> Actor:
        """What plays one real episode where `chosen` decides; `rng` is drawn from as by `actor`."""
        del model, rng, greedy
        return chosen


class LiveAgent(ABC):
    """An agent in a model that goes on learning.

    Args:
        model: V and M while they learn; the agent follows their weights.
    """

    def __init__(self, model: WorldModel) -> None:
        self._model = model

    @abstractmethod
    def update(self, replayed: Replayed, step: int) -> Scalars:
        """Learn in dreams that begin at some of the replayed moments; depends on weights, those and `step` alone.

        Raises:
            NonFiniteError: A loss became NaN or infinite.
        """

    @abstractmethod
    def as_it_is(self) -> LivePlayer:
        """What plays, with the weights of this moment, here or in another process."""

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
        check_dream_length(options.horizon, model.max_episode_steps, "the model's time limit")
        self._options, self._seed = options, seed
        self._networks = new_actor_critic(model, options, seed=seed)
        self._step = RepeatedStep(
            self._networks,
            self._losses,
            learning_rate=options.learning_rate,
            device=model.device,
            clip=_CLIP,
            checkpoint=checkpoint,
        )
        temperature = model.temperature if options.temperature is None else options.temperature
        self._imagination = Imagination(
            model.memory, self._networks, options, temperature=temperature, recorded=self._step.records
        )

    def update(self, replayed: Replayed, step: int) -> Scalars:
        states, windows = replayed
        rng, wanted, there = np.random.default_rng([self._seed, step, 1]), self._options.batch_size, len(states[0])
        # Of fewer moments than dreams some begin several
        rows = rng.permutation(there)[:wanted] if there >= wanted else rng.integers(there, size=wanted)
        inputs = tuple(select(states, torch.from_numpy(rows).to(self._model.device)))
        if self._options.replay_critic > 0 and windows is not None:
            inputs += tuple(windows)
        with frozen(self._model.memory):
            scalars, _ = self._step(inputs, seed=self._seed + 1, step=step)
        warn_beyond_bound(scalars, self._options)
        return scalars

    def _losses(self, inputs: Tensors, generator: torch.Generator) -> tuple[Losses, Tensors]:
        """Losses of dreams from the states, and on the windows if any, whose tensors are `inputs`."""
        kind = self._model.memory.state_type
        parts = len(kind._fields)
        windows = Windows(*inputs[parts:]) if len(inputs) > parts else None
        return self._imagination.losses(kind(*inputs[:parts]), as_noise(generator), windows), ()

    def as_it_is(self) -> LivePlayer:
        actor = self._networks.player
        return _Policy(_weights(actor), actor.width, actor.to_action.kind)

    def save(self, folder: Path) -> None:
        agent = agent_of(self._networks, self._model, self._options)
        agent.provenance = {
            "real_id": self._model.real.id,
            "real_frames": 0,  # it learns from what the model has learned from
            "trained_in": "dream",
            "weights": self._model.weights_digest(),
            "settings": plain(self._options) | {"seed": self._seed},
        }
        save_agent(agent, folder)

    def tensors(self) -> dict[str, Tensor]:
        return training_tensors(self._networks, self._step.optimiser)

    def load(self, tensors: dict[str, Tensor]) -> None:
        restore_training(tensors, self._networks, self._step.optimiser)


class LiveGuide(LiveActorCritic):
    """Actor and critic in imagination, which guide a planner that plays; it explores by noise on its actions.

    Args:
        model, options, seed, checkpoint: As for `LiveActorCritic`.
        planner: "planner:SCHEME,SETTING=VALUE", of a planner that takes a guide.

    Raises:
        ConfigurationError: As for `LiveActorCritic`, or a planner that cannot plan in this model.
    """

    def __init__(
        self, model: WorldModel, options: ImaginationOptions, *, planner: str, seed: int, checkpoint: Path
    ) -> None:
        super().__init__(model, options, seed=seed, checkpoint=checkpoint)
        self._planner = planner
        self.as_it_is().planner(model)

    def as_it_is(self) -> LivePlayer:
        actor = self._networks.player
        policy = _Policy(_weights(actor), actor.width, actor.to_action.kind)
        return _Guided(self._planner, policy, _weights(self._networks.critic), self._options.value_bound)


def _weights(network: nn.Module) -> dict[str, NDArray[np.float32]]:
    return {name: part.detach().cpu().numpy().copy() for name, part in network.state_dict().items()}


def _with_weights(network: NetworkT, weights: dict[str, NDArray[np.float32]]) -> NetworkT:
    network.load_state_dict({name: torch.from_numpy(part) for name, part in weights.items()})
    return network


@dataclass(frozen=True)
class _Policy(LivePlayer):
    """A policy, which explores by being sampled."""

    weights: dict[str, NDArray[np.float32]]
    width: int
    action_map: str | None

    def network(self, model: WorldModel) -> ActorNetwork:
        features = model.memory.feature_size
        network = ActorNetwork(features, model.action_space, action_map=self.action_map, width=self.width)
        return _with_weights(network, self.weights)

    def actor(self, model: WorldModel, rng: np.random.Generator, *, greedy: bool) -> Actor:
        space = model.observation_space("features")
        agent = ActorCriticAgent(self.network(model), space, model.action_space, seed=int(rng.integers(2**31)))
        name = self.label if greedy else f"{self.label}, sampled"
        return AgentActor(model, resolve_agent(agent, model), name, rng, deterministic=greedy)


@dataclass(frozen=True)
class _Planner(LivePlayer):
    """A planner, which explores by noise on its actions."""

    name: str

    @property
    def label(self) -> str:
        return self.name

    def actor(self, model: WorldModel, rng: np.random.Generator, *, greedy: bool) -> Actor:
        actor = AgentActor(model, resolve_agent(self.planner(model), model), self.label, rng)
        return self.exploring(actor, model, rng, greedy=greedy)

    def planner(self, model: WorldModel) -> MPCAgent:
        return mpc_agent(self.name, model)

    def exploring(self, chosen: Actor, model: WorldModel, rng: np.random.Generator, *, greedy: bool) -> Actor:
        return Noisy(chosen, model.action_space, rng, probability=(0.0, 0.0) if greedy else NOISE)


@dataclass(frozen=True)
class _Guided(_Planner):
    """A planner with its guide."""

    policy: _Policy
    critic: dict[str, NDArray[np.float32]]
    value_bound: float

    @property
    def label(self) -> str:
        return f"{self.name}, guided"

    def planner(self, model: WorldModel) -> MPCAgent:
        planner, own = planner_called(self.name)
        critic = Critic(model.memory.feature_size, width=self.policy.width, bound=self.value_bound)
        guide = PolicyValue(self.policy.network(model), _with_weights(critic, self.critic))
        return MPCAgent(model, guidable(planner, self.name).guided(guide.to(model.device)), **own)


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

    def update(self, replayed: Replayed, step: int) -> Scalars:
        return {}

    def as_it_is(self) -> LivePlayer:
        return _Planner(self._name)

    def save(self, folder: Path) -> None:
        pass
