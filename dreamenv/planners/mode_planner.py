"""What planning by gradients and iLQR share: plans in the mode of a dream that can be differentiated."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.ordinary import ordinary_torch
from dreamenv.memory.states import repeat
from dreamenv.noise.base import Noise, as_noise
from dreamenv.planners.arguments import check_count, check_discount
from dreamenv.planners.base import Guide, Plan, Policy, TerminalValue
from dreamenv.planners.imagined_return import actions_of
from dreamenv.planners.mode_derivatives import mode_step
from dreamenv.planners.sequence_planner import Found
from dreamenv.planners.sequences import BoxSequences, box_sequences
from dreamenv.world_model import WorldModel

PlannerT = TypeVar("PlannerT", bound="ModePlanner")


@dataclass(frozen=True, kw_only=True)
class ModePlanner(ABC):
    """A planner of Box actions that improves whole plans by derivatives of the dream.

    It plans in the mode (temperature 0), whatever the model's own temperature is. What a memory draws once for a whole
    dream, such as a member of an ensemble, is drawn anew at the start of each plan.

    Attributes:
        horizon: Dreamed steps that a plan looks ahead.
        starts: Plans that are improved, of which the best is kept: the one that the last search left, and random ones.
        iterations: How often each is improved.
        discount: γ per dreamed step.
        terminal_value: What features `[R, F]` are worth at the end of a plan, `[R]`, differentiable; None takes the
            memory's own value, and nothing where it has none.
        policy: Proposes a plan by acting in the dream, which is improved as one more start. None: nothing is proposed.
    """

    scheme: ClassVar[str]

    horizon: int = 12
    starts: int = 3
    iterations: int = 10
    discount: float = 0.99
    terminal_value: TerminalValue | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigurationError: A number out of range.
        """
        check_count(horizon=self.horizon, starts=self.starts, iterations=self.iterations)
        check_discount(self.discount)

    @property
    def length(self) -> int:
        """How many actions a plan holds: the horizon."""
        return self.horizon

    def plan(
        self,
        world_model: WorldModel,
        state: Any,
        *,
        noise: torch.Generator | Noise,
        warm: Tensor | None = None,
    ) -> Plan:
        """Plans for the B rows of a memory state.

        Args:
            world_model: The dream to look ahead in.
            state: Memory state of B rows.
            noise: Draws the random starts, and what the memory draws once for a dream.
            warm: `[B, K, A]` from `shifted` or `cold`; None is `cold`.

        Raises:
            ConfigurationError: Actions that are not a bounded Box, a memory that carries no gradients, or a `warm` of
                another shape.
            NonFiniteError: A dreamed return or a derivative that is NaN or infinite.
        """
        sequences = self._sequences(world_model)
        rows, others = len(state[0]), self.starts - 1
        noise = as_noise(noise)
        with ordinary_torch():
            centre = sequences.neutral(rows, self.horizon)
            if warm is not None:
                if warm.shape != centre.shape:
                    raise ConfigurationError(
                        f"got a warm start of shape {tuple(warm.shape)}, expected {tuple(centre.shape)}"
                    )
                centre = warm.to(centre).clamp(-1, 1)
            starts = [centre.unsqueeze(1)]
            if others:
                starts.append(sequences.uniform(rows, others, self.horizon, noise))
            with torch.no_grad():
                # A copy, since a caller in inference mode gives tensors that can never be differentiated
                own = type(state)(*(part.clone() for part in state))
                if self.policy is not None:
                    starts.append(self._proposed(world_model, own, sequences, noise).unsqueeze(1))
                plans = torch.cat(starts, 1)
                begun = self._branch(world_model, own, plans.shape[1], noise)
            found = self._improve(world_model, begun, plans.flatten(0, 1), sequences)
        if not bool(torch.isfinite(found.value).all()):
            raise NonFiniteError(
                "a dreamed return is not finite: the observation was not, or the memory model diverges within "
                f"horizon={self.horizon}"
            )
        value, best = found.value.view(rows, -1).max(1)
        chosen = found.centre.view(*plans.shape)[torch.arange(rows, device=best.device), best]
        actions = sequences.actions(chosen)
        return Plan(actions[:, 0], actions, value, chosen)

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that are not a bounded Box of one dimension.

        Raises:
            ConfigurationError: Such actions.
        """
        box_sequences(action_space, self.scheme, torch.device("cpu"))

    def cold(self, world_model: WorldModel, rows: int) -> Tensor:
        """`[rows, K, A]`, the middle of the Box at every step.

        Raises:
            ConfigurationError: Actions that are not a bounded Box, or a memory that carries no gradients.
        """
        return self._sequences(world_model).neutral(rows, self.horizon)

    def shifted(self, world_model: WorldModel, proposal: Tensor, steps: int) -> Tensor:
        """A proposal moved `steps` dreamed steps ahead; what it says nothing of yet is the middle of the Box."""
        new = self.cold(world_model, len(proposal))
        return torch.cat([proposal[:, steps:], new[:, max(0, self.horizon - steps) :]], dim=1)

    def guided(self: PlannerT, guide: Guide) -> PlannerT:
        """The same planner with a guide's actions as one more start, and its values behind the plans."""
        return replace(self, policy=guide.action, terminal_value=guide.value)

    def _proposed(self, world_model: WorldModel, state: Any, sequences: BoxSequences, noise: Noise) -> Tensor:
        """The plan `[B, K, A]` that the policy follows in the mode of one dream of each row."""
        assert self.policy is not None
        memory = world_model.memory
        begun = memory.branch(state, 1, noise=noise)
        return sequences.plans(actions_of(self.policy, memory, partial(mode_step, memory), begun, self.horizon))

    def _sequences(self, world_model: WorldModel) -> BoxSequences:
        sequences = box_sequences(world_model.action_space, self.scheme, world_model.device)
        memory = world_model.memory
        if not memory.differentiable:
            raise ConfigurationError(
                f"planner {self.scheme!r} follows gradients through the dream, and {type(memory).__name__} carries "
                "none. Take 'cem', 'mppi' or 'shooting'."
            )
        return sequences

    def _branch(self, world_model: WorldModel, state: Any, starts: int, noise: Noise) -> Any:
        """The states of B rows as those of B · starts, where all starts of a row meet the same draws."""
        return repeat(world_model.memory.branch(state, 1, noise=noise), starts)

    @abstractmethod
    def _improve(self, world_model: WorldModel, state: Any, plans: Tensor, sequences: BoxSequences) -> Found:
        """The best that is found from each of R plans `[R, K, A]`, begun in a state of R rows."""
