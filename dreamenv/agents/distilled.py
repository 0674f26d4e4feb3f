"""A policy and a value that were learned from a planner's decisions: an agent, and a guide of the next search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.agents.actor_critic import Actor, Critic, PolicyAgent
from dreamenv.errors import ConfigurationError, SpaceMismatchError


class PolicyValue(nn.Module):
    """Features `[B, F]`, in units of their spread, to a policy and to the return that is expected.

    Args:
        features: F.
        action_space: Box with finite bounds, or Discrete.
        width: Units of the hidden layers.
        value_bound: Largest return that the value can say.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, features: int, action_space: gym.Space[Any], *, width: int = 128, value_bound: float = 1000.0
    ) -> None:
        super().__init__()
        self.actor = Actor(features, action_space, width=width)
        self.critic = Critic(features, width=width, bound=value_bound)
        self.value_bound = value_bound
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def chances(self, features: Tensor) -> Tensor:
        """`[B, n]`, chances of Discrete actions.

        Raises:
            ConfigurationError: Actions that are not Discrete.
        """
        if not self.actor.discrete:
            raise ConfigurationError("a policy over Box actions has no chances; a tree search needs Discrete actions")
        chances: Tensor = self.actor.network(self.standard(features)).softmax(-1)
        return chances

    def action(self, features: Tensor) -> Tensor:
        """The likeliest action: `[B, A]` float32 or `[B]` int64."""
        return self.actor.mode(self.standard(features))

    def value(self, features: Tensor) -> Tensor:
        """`[B]`, the discounted return to be expected."""
        value: Tensor = self.critic(self.standard(features))
        return value

    def standard(self, features: Tensor) -> Tensor:
        """Features in units of their spread."""
        return (features - self.mean) / self.std


class DistilledAgent(PolicyAgent):
    """The policy as an agent; see `PolicyAgent` for its other attributes.

    Attributes:
        guide: Policy and value, which a planner can begin its search from (`planner:mcts,guide=FOLDER`).
    """

    kind: ClassVar[str] = "distilled"

    def __init__(
        self,
        network: PolicyValue,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        observation: str = "features",
        provenance: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            network.actor,
            observation_space,
            action_space,
            observation=observation,
            provenance=provenance,
            seed=seed,
        )
        self.guide = network.eval()

    def _seen(self, features: Tensor) -> Tensor:
        return self.guide.standard(features)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters of policy and value, and the units of the features."""
        return dict(self.guide.state_dict())

    def config(self) -> dict[str, Any]:
        """Width and largest value."""
        return {"width": self.guide.actor.width, "value_bound": self.guide.value_bound}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        observation: str,
        provenance: dict[str, Any],
        **config: Any,
    ) -> DistilledAgent:
        """The inverse of `tensors` and `config`."""
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise SpaceMismatchError(f"a distilled policy reads a one-dimensional Box, got {observation_space}")
        network = PolicyValue(observation_space.shape[0], action_space, **config)
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise ConfigurationError(f"the parameters do not fit the policy: {error}") from error
        return cls(network, observation_space, action_space, observation=observation, provenance=provenance)
