"""Agents that act by a policy, which imagination has learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.agents.actor_critic import Actor, Critic
from dreamenv.agents.base import as_batch
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.noise.base import as_noise
from dreamenv.training.checkpoint import below

# Before the names of the critic's parameters in an agent's file
_CRITIC = "critic."


class PolicyAgent:
    """What agents with an `Actor` share: SB3's `predict`.

    Attributes:
        actor: The network.
        observation: Observation kind it reads.
        provenance: JSON-ready record of how it came about.
    """

    def __init__(
        self,
        actor: Actor,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        observation: str = "features",
        provenance: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.actor = actor.eval()
        self.observation_space = observation_space
        self.action_space = action_space
        self.observation = observation
        self.provenance = dict(provenance or {})
        self._rng = np.random.default_rng(seed)

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions of observations `[F]` or `[B, F]`: the likeliest, or sampled from the policy.

        Raises:
            SpaceMismatchError: An observation of another shape.
            NonFiniteError: An observation or an action that is not finite.
        """
        batch, single = as_batch(observation, self.observation_space)
        device = next(self.actor.parameters()).device
        inputs = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).to(device)
        if not bool(torch.isfinite(inputs).all()):
            raise NonFiniteError("the observation given to the actor is not finite")
        with torch.inference_mode():
            seen = self._seen(inputs)
            if deterministic:
                action = self.actor.mode(seen)
            else:
                generator = torch.Generator(device).manual_seed(int(self._rng.integers(2**63)))
                action = self.actor.sample(seen, as_noise(generator)).action
                if self.actor.discrete:
                    action = self.actor.to_action(action)
        if action.is_floating_point() and not bool(torch.isfinite(action).all()):
            raise NonFiniteError("the actor's action is not finite: its weights are too large")
        array = self.actor.to_action.to_numpy(action)
        return (np.asarray(array[0]) if single else array), state

    def _seen(self, features: Tensor) -> Tensor:
        """What the actor is given of features `[B, F]`; themselves by default."""
        return features


class ActorCriticAgent(PolicyAgent):
    """The actor as an agent; see `PolicyAgent` for its other attributes.

    Args:
        critic: What says the value of features, in units of the real rewards; None keeps none.
        discount: γ per action of these values; None where nobody knows it.

    Attributes:
        guide: Actor and critic, which a planner can begin its search from (`planner:cem,guide=FOLDER`); None where
            no critic was kept.
    """

    kind: ClassVar[str] = "actor_critic"

    def __init__(
        self,
        actor: Actor,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        critic: Critic | None = None,
        discount: float | None = None,
        observation: str = "features",
        provenance: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            actor, observation_space, action_space, observation=observation, provenance=provenance, seed=seed
        )
        self.guide = None if critic is None else PolicyValue(actor, critic, discount=discount).eval()

    def tensors(self) -> dict[str, Tensor]:
        """The actor's parameters, and the critic's where there is one."""
        critic = {} if self.guide is None else self.guide.critic.state_dict()
        return dict(self.actor.state_dict()) | {_CRITIC + name: tensor for name, tensor in critic.items()}

    def config(self) -> dict[str, Any]:
        """Width, action map, and where there is a critic its largest value and its discount."""
        own = {"width": self.actor.width, "action_map": self.actor.to_action.kind}
        if self.guide is None:
            return own
        return own | {"value_bound": self.guide.critic.head.bound, "discount": self.guide.discount}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        observation: str,
        provenance: dict[str, Any],
        value_bound: float | None = None,
        discount: float | None = None,
        **config: Any,
    ) -> ActorCriticAgent:
        """The inverse of `tensors` and `config`."""
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise SpaceMismatchError(f"an actor reads a one-dimensional Box, got {observation_space}")
        features = observation_space.shape[0]
        actor, critic = Actor(features, action_space, **config), None
        found = {name: tensor.float() for name, tensor in tensors.items()}
        try:
            if value_bound is not None:
                critic = Critic(features, width=actor.width, bound=value_bound)
                critic.load_state_dict(below(_CRITIC, found))
                found = {name: tensor for name, tensor in found.items() if not name.startswith(_CRITIC)}
            actor.load_state_dict(found)
        except RuntimeError as error:
            raise ConfigurationError(f"the parameters do not fit the actor: {error}") from error
        return cls(
            actor,
            observation_space,
            action_space,
            critic=critic,
            discount=discount,
            observation=observation,
            provenance=provenance,
        )
