"""A policy and a value that were learned from a planner's decisions: an agent, and a guide of the next search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.agents.actor_critic import Actor, Critic
from dreamenv.agents.base import as_batch
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.noise.base import as_noise


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


class DistilledAgent:
    """The policy as an agent with SB3's `predict`.

    Attributes:
        guide: Policy and value, which a planner can begin its search from (`planner:mcts,guide=FOLDER`).
        observation: Observation kind it reads.
        provenance: JSON-ready record of how it came about.
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
        self.guide = network.eval()
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
            NonFiniteError: An observation that is not finite.
        """
        batch, single = as_batch(observation, self.observation_space)
        inputs = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32)).to(self.guide.mean.device)
        if not bool(torch.isfinite(inputs).all()):
            raise NonFiniteError("the observation given to the policy is not finite")
        actor = self.guide.actor
        with torch.inference_mode():
            if deterministic:
                action = self.guide.action(inputs)
            else:
                generator = torch.Generator(inputs.device).manual_seed(int(self._rng.integers(2**63)))
                action = actor.sample(self.guide.standard(inputs), as_noise(generator)).action
                if actor.discrete:
                    action = actor.to_action(action)
        array = actor.to_action.to_numpy(action)
        return (np.asarray(array[0]) if single else array), state

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
