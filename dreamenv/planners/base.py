"""What a planner is: memory states in, actions out. What a call found is handed to the next one, never hidden.

Letters in shapes: B rows (environments), K entries of a plan, D size of an entry, L actions of a plan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import gymnasium as gym
import torch
from torch import Tensor

from dreamenv.noise.base import Noise
from dreamenv.world_model import WorldModel

# What states are worth beyond a plan's end: features `[R, F]` to values `[R]`, in units of the real environment.
TerminalValue = Callable[[Tensor], Tensor]
# Features `[R, F]` to actions `[R, A]` or `[R]`.
Policy = Callable[[Tensor], Tensor]


class Plan(NamedTuple):
    """What to do in B states.

    Attributes:
        action: `[B, A]` float32 (Box) or `[B]` int64 (Discrete), the first action.
        actions: `[B, L, A]` or `[B, L]`, the whole plan.
        value: `[B]` float64, the dreamed discounted return that the planner expects of it.
        proposal: `[B, K, D]` float32, where a search at the next moment may begin; see `Planner.shifted`.
        policy: `[B, n]` float64, the chances of Discrete actions that a tree search recommends, rows sum to 1; None
            where the planner recommends its plan alone.
    """

    action: Tensor
    actions: Tensor
    value: Tensor
    proposal: Tensor
    policy: Tensor | None = None


class Guide(Protocol):
    """What a planner can begin its search from: a policy and a value that something has learned, of features `[R, F]`.

    `agents.policy_value.PolicyValue` is one.
    """

    def chances(self, features: Tensor) -> Tensor:
        """`[R, n]`, chances of Discrete actions, rows sum to 1.

        Raises:
            ConfigurationError: Actions that are not Discrete.
        """

    def action(self, features: Tensor) -> Tensor:
        """`[R, A]` float32 (Box) or `[R]` int64 (Discrete), the likeliest action."""

    def value(self, features: Tensor) -> Tensor:
        """`[R]`, the discounted return to be expected, in units of the real environment."""


class Planner(Protocol):
    """Chooses actions by dreaming ahead. Its settings are fixed; all that changes goes in and out of `plan`."""

    scheme: ClassVar[str]

    @property
    def length(self) -> int:
        """L, how many actions a plan holds."""

    def plan(
        self,
        world_model: WorldModel,
        state: Any,
        *,
        noise: torch.Generator | Noise,
        warm: Tensor | None = None,
    ) -> Plan:
        """Plans for the B rows of a memory state; `warm` `[B, K, D]` is where the search begins, None anywhere."""

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that the planner cannot choose, before there is a model of them.

        Raises:
            ConfigurationError: Such actions.
        """

    def cold(self, world_model: WorldModel, rows: int) -> Tensor:
        """The `warm` of rows that have no plan yet, `[rows, K, D]`; refuses actions that the planner cannot choose."""

    def shifted(self, world_model: WorldModel, proposal: Tensor, steps: int) -> Tensor:
        """The `warm` of a proposal after `steps` of its actions have been taken."""


@runtime_checkable
class Guidable(Protocol):
    """A planner that takes a guide."""

    def guided(self, guide: Guide) -> Planner:
        """The same planner, which begins its search from the guide."""
