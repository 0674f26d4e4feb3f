"""What shooting, CEM and MPPI share: plans as sequences of entries, scored by their dreamed return."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, TypeVar

import gymnasium as gym
import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import Stepper
from dreamenv.noise.base import Noise, as_noise
from dreamenv.planners.arguments import check_count, check_discount
from dreamenv.planners.base import Guide, Plan, Policy, TerminalValue
from dreamenv.planners.imagined_return import actions_of, imagined_returns
from dreamenv.planners.sequences import Sequences, sequences_of
from dreamenv.world_model import WorldModel, check_temperature

PlannerT = TypeVar("PlannerT", bound="SequencePlanner")
# Candidates `[B, N, K, D]` to their dreamed returns `[B, N]`.
Score = Callable[[Tensor], Tensor]


class Found(NamedTuple):
    """What a search ends with: the centre of its plans `[B, K, D]` and the return expected of them `[B]`."""

    centre: Tensor
    value: Tensor


@dataclass(frozen=True, kw_only=True)
class SequencePlanner(ABC):
    """A planner over open-loop sequences, the same for Box and Discrete actions.

    One call costs horizon · iterations (1 for shooting) calls of `imagine`, each over B · candidates · particles rows.

    Attributes:
        horizon: Dreamed steps that a plan looks ahead.
        candidates: Plans that are tried in each iteration; the one the search begins from is among them.
        particles: Dreams a candidate, whose returns are averaged.
        action_repeat: Dreamed steps for which an entry of a plan holds its action.
        discount: γ per dreamed step.
        temperature: Of the dream; None takes the model's own.
        common_noise: All candidates of a row meet the same noise, so that they differ by their actions alone.
        terminal_value: What features `[R, F]` are worth at the end of a plan, `[R]`; None takes the memory's own
            value, and nothing where it has none.
        policy: Proposes a plan by acting in the dream; the search begins from it where it is worth more than where the
            search would begin otherwise. None: nothing is proposed.
    """

    scheme: ClassVar[str]

    horizon: int = 12
    candidates: int = 128
    particles: int = 1
    action_repeat: int = 1
    discount: float = 0.99
    temperature: float | None = None
    common_noise: bool = True
    terminal_value: TerminalValue | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ConfigurationError: A number out of range.
        """
        check_count(
            horizon=self.horizon,
            candidates=self.candidates,
            particles=self.particles,
            action_repeat=self.action_repeat,
        )
        check_discount(self.discount)
        check_temperature(self.temperature)
        if self.action_repeat > self.horizon:
            raise ConfigurationError(
                f"action_repeat={self.action_repeat} is longer than horizon={self.horizon}: no plan would ever change "
                "its action"
            )

    @property
    def length(self) -> int:
        """How many actions a plan holds: the horizon."""
        return self.horizon

    @torch.no_grad()
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
            noise: Draws candidates and dreams. With a `RowNoise` a row's plan does not depend on the other rows
                (up to the rounding of a batched matrix product).
            warm: `[B, K, D]` from `shifted` or `cold`; None is `cold`.

        Raises:
            ConfigurationError: An action space that cannot be planned in, or a `warm` of another shape.
            NonFiniteError: A dreamed return that is NaN or infinite.
        """
        noise = as_noise(noise)
        sequences = sequences_of(world_model.action_space, world_model.device)
        rows = len(state[0])
        centre = sequences.neutral(rows, self._entries)
        if warm is not None:
            if warm.shape != centre.shape:
                raise ConfigurationError(
                    f"got a warm start of shape {tuple(warm.shape)}, expected {tuple(centre.shape)}"
                )
            centre = warm.to(centre)

        stepper = world_model.memory.stepper(rows * self.candidates * self.particles)

        def score(candidates: Tensor) -> Tensor:
            return imagined_returns(
                world_model,
                state,
                self._steps(sequences.actions(candidates), axis=2),
                noise=noise,
                discount=self.discount,
                temperature=self.temperature,
                particles=self.particles,
                common_noise=self.common_noise,
                terminal_value=self.terminal_value,
                stepper=stepper,
            )

        if self.policy is not None:
            proposed = self._proposed(world_model, state, sequences, noise, stepper)
            values = score(torch.stack([sequences.mode(centre), proposed], dim=1))
            centre = torch.where((values[:, 1] > values[:, 0]).view(-1, 1, 1), proposed, centre)
        found = self._search(sequences, score, centre, noise)
        actions = self._steps(sequences.actions(sequences.mode(found.centre)), axis=1)
        return Plan(actions[:, 0], actions, found.value, found.centre)

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        """Refuse actions that are neither Discrete nor a bounded Box of one dimension.

        Raises:
            ConfigurationError: Such actions.
        """
        sequences_of(action_space, torch.device("cpu"))

    def cold(self, world_model: WorldModel, rows: int) -> Tensor:
        """`[rows, K, D]`, the centre that prefers nothing: the middle of a Box, equal chances of Discrete actions.

        Raises:
            ConfigurationError: An action space that cannot be planned in.
        """
        return sequences_of(world_model.action_space, world_model.device).neutral(rows, self._entries)

    def shifted(self, world_model: WorldModel, proposal: Tensor, steps: int) -> Tensor:
        """A proposal moved `steps` dreamed steps ahead; what it says nothing of yet prefers nothing.

        An entry that then covers two former ones is their mean, in proportion.
        """
        held = self.action_repeat
        ahead = proposal.repeat_interleave(held, dim=1)[:, steps:]
        new = self.cold(world_model, len(proposal)).repeat_interleave(held, dim=1)[:, ahead.shape[1] :]
        return torch.cat([ahead, new], dim=1).unflatten(1, (-1, held)).mean(2)

    def guided(self: PlannerT, guide: Guide) -> PlannerT:
        """The same planner with a guide's actions as a proposal, and its values behind the plans."""
        return replace(self, policy=guide.action, terminal_value=guide.value)

    def _proposed(
        self, world_model: WorldModel, state: Any, sequences: Sequences, noise: Noise, stepper: Stepper[Any]
    ) -> Tensor:
        """The plan `[B, K, D]` that the policy follows in one dream of each row."""
        assert self.policy is not None
        temperature = world_model.temperature if self.temperature is None else self.temperature
        dream = partial(stepper, noise=noise, temperature=temperature)
        followed = actions_of(self.policy, world_model.memory, dream, state, self.horizon, held=self.action_repeat)
        return sequences.plans(followed)

    @property
    def _entries(self) -> int:
        return math.ceil(self.horizon / self.action_repeat)

    def _steps(self, actions: Tensor, axis: int) -> Tensor:
        """Actions of entries as actions of dreamed steps."""
        return actions.repeat_interleave(self.action_repeat, dim=axis).narrow(axis, 0, self.horizon)

    @abstractmethod
    def _search(self, sequences: Sequences, score: Score, centre: Tensor, noise: Noise) -> Found:
        """Improve on plans around `centre` `[B, K, D]`."""


def with_mode(sequences: Sequences, centre: Tensor, drawn: Tensor) -> Tensor:
    """Candidates with the first replaced by the likeliest plan of the centre, so that no search loses what it has."""
    return torch.cat([sequences.mode(centre).unsqueeze(1), drawn[:, 1:]], dim=1)
