"""A small actor on the dream's features, and the critic it learns with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.agents.action_map import ActionMap
from dreamenv.memory.heads import RewardHead
from dreamenv.noise.base import Noise

# The spread of the action noise before tanh, as a standard deviation.
_STD_RANGE = (0.05, 1.5)
# Of a Box action's half range, what is imitated at most
_LARGEST_SHARE = 0.98
# Share of uniform probability in a categorical policy, so that no action's probability ever vanishes.
_UNIFORM_SHARE = 0.01


class Choice(NamedTuple):
    """A sampled action with its gradient.

    Attributes:
        action: `[B, A]` float32: Box actions, or one-hot Discrete ones (straight-through gradient).
        entropy: `[B]` nats; for Box that of the Gaussian before the squashing.
        log_probability: `[B]` of the action as a given one, so that its gradient is the policy's score; for Box of the
            Gaussian before the squashing.
    """

    action: Tensor
    entropy: Tensor
    log_probability: Tensor


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Linear(width, width),
        nn.LayerNorm(width),
        nn.SiLU(),
        nn.Linear(width, outputs),
    )


class Actor(nn.Module):
    """Features `[B, F]` to a distribution over actions: squashed Gaussian (Box) or categorical (Discrete).

    Args:
        features: F.
        action_space: Box with finite bounds, or Discrete.
        action_map: See `ActionMap`.
        width: Units of each of two hidden layers.

    Attributes:
        features, width: As given.
        to_action: Makes actions of the network's outputs.
    """

    def __init__(
        self, features: int, action_space: gym.Space[Any], *, action_map: str | None = None, width: int = 128
    ) -> None:
        super().__init__()
        self.features, self.width = features, width
        self.to_action = ActionMap(action_space, action_map)
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.network = _network(features, width, self.to_action.outputs * (1 if self.discrete else 2))
        last = list(self.network.parameters())[-2:]
        with torch.no_grad():
            for parameter in last:  # near zero: the first policy has no preference
                parameter.mul_(0.01)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Actor:
        """As of any module; the bounds of the actions come along to another device."""
        super()._apply(fn, recurse)
        self.to_action.to(next(self.parameters()).device)
        return self

    def mode(self, features: Tensor) -> Tensor:
        """The likeliest action: `[B, A]` float32 or `[B]` int64."""
        outputs = self.network(features)
        return self.to_action(outputs if self.discrete else outputs.chunk(2, -1)[0])

    def sample(self, features: Tensor, noise: Noise) -> Choice:
        """A random action, reparameterised (Box) or straight-through (Discrete; Bengio et al. 2013)."""
        outputs = self.network(features)
        if not self.discrete:
            mean, spread = outputs.chunk(2, -1)
            low, high = _STD_RANGE
            std = low + (high - low) * torch.sigmoid(spread)
            standard = noise.normal(*mean.shape)
            raw = mean + std * standard
            distance = (raw.detach() - mean) / std
            log_probability = (-0.5 * distance.square() - std.log() - 0.9189385).sum(-1)
            return Choice(self.to_action(raw), (std.log() + 1.4189385).sum(-1), log_probability)
        probability = (1 - _UNIFORM_SHARE) * outputs.softmax(-1) + _UNIFORM_SHARE / outputs.shape[-1]
        chosen = (noise.uniform(len(outputs), 1) >= probability.detach().cumsum(-1)[:, :-1]).sum(-1)
        hard = nn.functional.one_hot(chosen, outputs.shape[-1]).to(probability)
        entropy = -(probability * probability.log()).sum(-1)
        log_probability = (hard * probability.log()).sum(-1)
        return Choice(hard + probability - probability.detach(), entropy, log_probability)

    def imitation_loss(self, features: Tensor, target: Tensor) -> Tensor:
        """`[B]` nats, the cross-entropy of given behaviour under the policy.

        Args:
            features: `[B, F]`.
            target: Chances of Discrete actions `[B, n]`, or Box actions of a policy that squashes, in shares of their
                range `[B, A]` from -1 to 1.
        """
        outputs = self.network(features)
        if self.discrete:
            return -(target * outputs.log_softmax(-1)).sum(-1)
        mean, spread = outputs.chunk(2, -1)
        low, high = _STD_RANGE
        std = low + (high - low) * torch.sigmoid(spread)
        # A bound itself lies at infinity before the squashing
        raw = target.clamp(-_LARGEST_SHARE, _LARGEST_SHARE).atanh()
        return (0.5 * ((raw - mean) / std).square() + std.log()).sum(-1)


class Critic(nn.Module):
    """Features `[B, F]` to the expected return `[B]`, by classification over values spaced in symlog."""

    def __init__(self, features: int, *, width: int = 128, bound: float = 1000.0) -> None:
        super().__init__()
        self.trunk = _network(features, width, width)
        self.head = RewardHead(width, "two_hot", width=width, bins=127, bound=bound)

    def forward(self, features: Tensor) -> Tensor:
        value: Tensor = self.head(self.trunk(features))
        return value

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy in nats `[B]`."""
        return self.head.loss(self.trunk(features), target)


class ActorCritic(nn.Module):
    """Actor, critic, and the slow copy of the critic that gives the targets.

    Args:
        features: F.
        action_space: See `Actor`.
        action_map: See `ActionMap`.
        width: Hidden units of actor and critic.
        averaged: Whether a running mean of the actor's weights is kept, and plays in its place.
        value_bound: Largest value that the critic can say.

    Attributes:
        scale: Running estimate of the spread of returns, which the actor's objective is divided by.
    """

    scale: Tensor

    def __init__(
        self,
        features: int,
        action_space: gym.Space[Any],
        *,
        action_map: str | None = None,
        width: int = 128,
        averaged: bool = False,
        value_bound: float = 1000.0,
    ) -> None:
        super().__init__()
        self.actor = Actor(features, action_space, action_map=action_map, width=width)
        self.mean_actor = copy.deepcopy(self.actor).requires_grad_(False) if averaged else None
        self.critic = Critic(features, width=width, bound=value_bound)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.register_buffer("scale", torch.ones(()))

    @property
    def actors(self) -> list[Actor]:
        """The actor, and its mean where there is one."""
        return [self.actor] if self.mean_actor is None else [self.actor, self.mean_actor]

    @property
    def player(self) -> Actor:
        """What plays: the mean actor where there is one."""
        return self.actors[-1]

    @torch.no_grad()
    def follow(self, rate: float, actor_rate: float | None = None) -> None:
        """Move the slow critic by `rate` towards the critic, and the mean actor by `actor_rate` towards the actor."""
        for slow, fast in zip(self.target.parameters(), self.critic.parameters(), strict=True):
            slow.lerp_(fast, rate)
        if self.mean_actor is not None and actor_rate is not None:
            for slow, fast in zip(self.mean_actor.parameters(), self.actor.parameters(), strict=True):
                slow.lerp_(fast, actor_rate)

    def begin_at(self, actor: dict[str, Tensor], critic: dict[str, Tensor] | None = None) -> None:
        """Give the actor, and its mean, these weights, and the critic and its slow copy theirs where there are any."""
        for part in self.actors:
            part.load_state_dict(actor)
        if critic is not None:
            self.critic.load_state_dict(critic)
            self.target.load_state_dict(critic)
