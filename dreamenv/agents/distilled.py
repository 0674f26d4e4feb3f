"""A policy and a value that were learned from a planner's decisions: an agent, and a guide of the next search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
from gymnasium import spaces
from torch import Tensor

from dreamenv.agents.policy_agent import PolicyAgent
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.errors import ConfigurationError, SpaceMismatchError


class DistilledAgent(PolicyAgent):
    """The policy as an agent; see `PolicyAgent` for its other attributes.

    Attributes:
        guide: Policy and value, which a planner can begin its search from (`planner:mcts,guide=FOLDER`). Its discount
            is not kept: that of the planner, or `DistillationOptions.discount`, as `DistillationOptions.value` says.
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
        return {"width": self.guide.actor.width, "value_bound": self.guide.critic.head.bound}

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
        network = PolicyValue.fresh(observation_space.shape[0], action_space, **config)
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError as error:
            raise ConfigurationError(f"the parameters do not fit the policy: {error}") from error
        return cls(network, observation_space, action_space, observation=observation, provenance=provenance)
