"""A policy and a value of the same features, which a search can begin from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn

from dreamenv.agents.actor_critic import Actor, Critic
from dreamenv.errors import ConfigurationError


class PolicyValue(nn.Module):
    """Features `[B, F]`, in units of their spread, to a policy and to the return that is expected.

    Args:
        actor: The policy.
        critic: The value, of the same features.
        discount: γ per action of the value; None where nobody knows it.

    Attributes:
        mean, std: `[F]`, the units; 0 and 1 leave features as they are.
        discount: As given.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, actor: Actor, critic: Critic, *, discount: float | None = None) -> None:
        super().__init__()
        self.actor, self.critic, self.discount = actor, critic, discount
        device = next(actor.parameters()).device
        self.register_buffer("mean", torch.zeros(actor.features, device=device))
        self.register_buffer("std", torch.ones(actor.features, device=device))

    @classmethod
    def fresh(
        cls, features: int, action_space: gym.Space[Any], *, width: int = 128, value_bound: float = 1000.0
    ) -> PolicyValue:
        """Networks that have learned nothing.

        Args:
            features: F.
            action_space: Box with finite bounds, or Discrete.
            width: Units of the hidden layers.
            value_bound: Largest return that the value can say.
        """
        return cls(Actor(features, action_space, width=width), Critic(features, width=width, bound=value_bound))

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
