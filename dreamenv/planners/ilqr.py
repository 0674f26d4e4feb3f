"""Iterative LQR with bounded actions: plans are improved by a quadratic model of what the dream pays.

Letters in shapes: R plans, L steps, X numbers of a state (one more where the share of dreams that go on is counted in),
A of an action.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from dreamenv.memory.base import MemoryModel
from dreamenv.memory.states import merge, repeat, select
from dreamenv.planners.arguments import check_positive
from dreamenv.planners.base import TerminalValue
from dreamenv.planners.box_quadratic import among_free, box_minimum
from dreamenv.planners.mode_derivatives import (
    StepDerivatives,
    ValueDerivatives,
    mode_step,
    numbers,
    step_derivatives,
    value_derivatives,
)
from dreamenv.planners.mode_planner import ModePlanner
from dreamenv.planners.sequence_planner import Found
from dreamenv.planners.sequences import BoxSequences
from dreamenv.world_model import WorldModel

# Shares of the step that the quadratic model advises; all are tried at once
_SHARES = (1.0, 0.5, 0.25, 0.1, 0.03)
# Damping, in units of the largest curvature of a step: what a first failure sets, its factor, and where one gives up
_FIRST_DAMPING, _DAMPING_FACTOR, _MOST_DAMPING = 1e-3, 10.0, 1e4
# The least curvature, as a share of the largest one of the step
_LEAST_CURVATURE = 1e-6
_TINY = 1e-9


class Trajectory(NamedTuple):
    """R plans and where they lead.

    Attributes:
        plans: `[R, L, A]` in [-1, 1].
        states: The memory state before each step and behind the last one, L + 1 of them.
        rewards, ends: `[R, L]` float64, rewards and probabilities of the end.
        returns: `[R]` float64.
    """

    plans: Tensor
    states: list[Any]
    rewards: Tensor
    ends: Tensor
    returns: Tensor


class Advice(NamedTuple):
    """How to change plans: `[R, L, A]` at the states as they are, and `[R, L, A, X]` by how those differ."""

    step: Tensor
    gain: Tensor


@dataclass(frozen=True, kw_only=True)
class ILQR(ModePlanner):
    """Iterative LQR with bounded actions, control-limited differential dynamic programming.

    Tassa, Mansard & Todorov 2014, "Control-limited differential dynamic programming": a backward pass fits a linear
    feedback to first derivatives of the next state and second derivatives of the reward, with the bounds as those of a
    quadratic problem at each step; a forward pass tries several shares of it and keeps the best. A linear dream with a
    concave quadratic reward is solved in one iteration. The state is extended by the probability that the dream still
    goes on, so that ends count as in `imagined_returns`.

    Departures: negative curvatures of a step take their absolute value, and the damping is in units of its largest
    curvature, raised tenfold for a plan that no share has improved; of the probability of the end the second derivative
    counts too, since it may be all that tells good from bad; all shares are tried at once.

    One iteration costs, for each plan and step, 3·X + 3·A + 7 rows of `imagine` or less, where X is the size of the
    memory's state: it suits ensembles on vector observations. An LSTM of 256 units makes it slow.

    Attributes:
        tolerance: An improvement below this share of the return ends the search of a plan.

    The others are those of `ModePlanner`.
    """

    scheme: ClassVar[str] = "ilqr"

    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(tolerance=self.tolerance)

    def _improve(self, world_model: WorldModel, state: Any, plans: Tensor, sequences: BoxSequences) -> Found:
        dream = ModeDream(world_model.memory, sequences, self.discount, self.terminal_value)
        kept = dream.play(state, plans)
        damping = torch.zeros_like(kept.returns)
        active = torch.isfinite(kept.returns)
        for _ in range(self.iterations):
            if not bool(active.any()):
                break
            rows = active.nonzero().squeeze(1)
            former = _rows_of(kept, rows)
            advice = dream.advice(former, damping[rows])
            found = dream.follow(former, advice)
            gained = found.returns - former.returns
            better = gained > 0
            kept = _replaced(kept, rows, found, better)
            ended = better & (gained < self.tolerance * (former.returns.abs() + self.tolerance))
            raised = (damping[rows] * _DAMPING_FACTOR).clamp(min=_FIRST_DAMPING)
            lowered = damping[rows] / _DAMPING_FACTOR
            damping[rows] = torch.where(better, torch.where(lowered < _FIRST_DAMPING, 0.0, lowered), raised)
            active[rows] = ~ended & (damping[rows] <= _MOST_DAMPING)
        return Found(kept.plans, kept.returns)


class ModeDream:
    """The mode of a dream as iLQR sees it: it plays plans, derives advice from where they lead, and follows it.

    Args:
        memory: The model.
        sequences: Of its actions.
        discount, terminal_value: As for `ILQR`.
    """

    def __init__(
        self,
        memory: MemoryModel[Any],
        sequences: BoxSequences,
        discount: float,
        terminal_value: TerminalValue | None,
    ) -> None:
        self._memory, self._sequences = memory, sequences
        self._discount, self._terminal_value = discount, terminal_value

    @torch.no_grad()
    def play(self, state: Any, plans: Tensor, around: tuple[list[Any], Advice] | None = None) -> Trajectory:
        """Dream plans `[R, L, A]` from a state of R rows; `around` corrects them by how the states differ from given
        ones."""
        states, rewards, ends, taken = [state], [], [], []
        for step in range(plans.shape[1]):
            entry = plans[:, step]
            if around is not None:
                off = numbers(state) - numbers(around[0][step])
                entry = entry + torch.einsum("rax,rx->ra", around[1].gain[:, step].to(off), off)
            entry = entry.clamp(-1, 1)
            state, prediction = mode_step(self._memory, state, self._sequences.actions(entry))
            states.append(state)
            taken.append(entry)
            rewards.append(prediction.reward.double())
            ends.append(prediction.termination_probability.double())
        worth = (
            self._memory.value(state)
            if self._terminal_value is None
            else self._terminal_value(self._memory.features(state))
        )
        reward, end = torch.stack(rewards, 1), torch.stack(ends, 1)
        reached = self._reached(end)
        returns = (reached[:, :-1] * reward).sum(1)
        if worth is not None:
            returns = returns + reached[:, -1] * worth.double()
        return Trajectory(torch.stack(taken, 1), states, reward, end, returns)

    def follow(self, former: Trajectory, advice: Advice) -> Trajectory:
        """The best of what shares of the advice make of each plan; a return that is not finite is the worst."""
        times = len(_SHARES)
        shares = torch.tensor(_SHARES, device=former.plans.device).repeat(len(former.plans)).view(-1, 1, 1)
        wide = [repeat(state, times) for state in former.states]
        plans = former.plans.repeat_interleave(times, 0) + shares * advice.step.repeat_interleave(times, 0).to(
            former.plans
        )
        spread = Advice(advice.step, advice.gain.repeat_interleave(times, 0))
        tried = self.play(wide[0], plans, (wide, spread))
        worth = torch.where(torch.isfinite(tried.returns), tried.returns, -torch.inf).view(-1, times)
        best = worth.argmax(1) + torch.arange(len(worth), device=worth.device) * times
        return _rows_of(tried._replace(returns=worth.flatten()), best)

    def advice(self, former: Trajectory, damping: Tensor) -> Advice:
        """The backward pass.

        Args:
            former: Of R plans.
            damping: `[R]`.
        """
        rows, steps, size = former.plans.shape
        moments = zip(*former.states[:-1], strict=True)
        flat = type(former.states[0])(*(torch.stack(parts, 1).flatten(0, 1) for parts in moments))
        found = step_derivatives(self._memory, flat, self._sequences.actions(former.plans.flatten(0, 1)))
        worth = value_derivatives(self._memory, former.states[-1], self._terminal_value)
        reached = self._reached(former.ends)
        slope, curvature = _end_of_plan(worth, reached[:, -1])
        plans = former.plans.double()
        changes, gains = [], []
        for step in reversed(range(steps)):
            index = torch.arange(rows, device=plans.device) * steps + step
            here = self._in_entries(StepDerivatives(*(part[index] for part in found)), size)
            quadratic = _stage(
                here, slope, curvature, reached[:, step], former.rewards[:, step], former.ends[:, step], self._discount
            )
            change, gain, slope, curvature = _best_change(*quadratic, size, damping, plans[:, step])
            changes.append(change)
            gains.append(gain[:, :, :-1])  # plans are not corrected by how likely the dream still goes on
        return Advice(torch.stack(changes[::-1], 1), torch.stack(gains[::-1], 1))

    def _reached(self, ends: Tensor) -> Tensor:
        """`[R, L + 1]`, the discounted probabilities that a dream gets to each step and to the plan's end."""
        on = (self._discount * (1 - ends)).cumprod(1)
        return torch.cat([torch.ones_like(on[:, :1]), on], dim=1)

    def _in_entries(self, found: StepDerivatives, size: int) -> StepDerivatives:
        """Derivatives by actions as those by entries of plans."""
        half = self._sequences.half_range.double()
        scale = torch.cat([half.new_ones(found.reward.shape[1] - size), half])
        both = scale.unsqueeze(1) * scale
        return StepDerivatives(
            found.following * scale,
            found.reward * scale,
            found.end * scale,
            found.reward_curvature * both,
            found.end_curvature * both,
        )


def _end_of_plan(worth: ValueDerivatives, reached: Tensor) -> tuple[Tensor, Tensor]:
    """Slope `[R, X + 1]` and curvature of the cost -w·V at a plan's end, by the state and by w."""
    weight = reached.view(-1, 1)
    slope = torch.cat([-weight * worth.slope, -worth.value.unsqueeze(1)], 1)
    across = -worth.slope.unsqueeze(2)
    corner = torch.zeros_like(across[:, :1])
    upper = torch.cat([-weight.unsqueeze(2) * worth.curvature, across], 2)
    return slope, torch.cat([upper, torch.cat([across.transpose(1, 2), corner], 2)], 1)


def _stage(
    here: StepDerivatives,
    slope: Tensor,
    curvature: Tensor,
    weight: Tensor,
    reward: Tensor,
    end: Tensor,
    discount: float,
) -> tuple[Tensor, Tensor]:
    """The cost from this step on as a quadratic in (state, w, action): first `[R, X + 1 + A]` and second derivatives.

    It is -w·r here, and further on what `slope` and `curvature` say of the next state and of w' = γ·w·(1 - p).
    """
    size = here.following.shape[1]
    one = weight.view(-1, 1)
    weight_next = torch.cat(
        [
            -discount * one * here.end[:, :size],
            discount * (1 - end).unsqueeze(1),
            -discount * one * here.end[:, size:],
        ],
        1,
    )
    still = torch.zeros_like(here.following[:, :, :1])
    jacobian = torch.cat(
        [torch.cat([here.following[:, :, :size], still, here.following[:, :, size:]], 2), weight_next.unsqueeze(1)], 1
    )
    first = torch.cat([-one * here.reward[:, :size], -reward.unsqueeze(1), -one * here.reward[:, size:]], 1)
    first = first + torch.einsum("rij,ri->rj", jacobian, slope)
    worth = slope[:, size].view(-1, 1)  # of w', which is minus what is still to come
    smooth = -one.unsqueeze(2) * (here.reward_curvature + discount * worth.unsqueeze(2) * here.end_curvature)
    mixed = -here.reward - discount * worth * here.end
    second = jacobian.transpose(1, 2) @ curvature @ jacobian
    inner = torch.cat([torch.arange(size), torch.arange(size + 1, second.shape[1])]).to(second.device)
    second[:, inner.unsqueeze(1), inner] += smooth
    second[:, size, inner] += mixed
    second[:, inner, size] += mixed
    return first, second


def _best_change(
    first: Tensor, second: Tensor, size: int, damping: Tensor, entry: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Change `[R, A]` of the action and its gain `[R, A, X + 1]`, and the cost's slope and curvature before it."""
    state_slope, action_slope = first[:, :-size], first[:, -size:]
    state_curvature, across, plain = second[:, :-size, :-size], second[:, -size:, :-size], second[:, -size:, -size:]
    lifted = _lifted(plain, damping)
    found = box_minimum(lifted, action_slope, -1 - entry, 1 - entry)
    gain = -torch.linalg.solve(among_free(lifted, found.free), torch.where(found.free.unsqueeze(2), across, 0.0))
    change = found.place.unsqueeze(2)
    back = gain.transpose(1, 2)
    slope = state_slope.unsqueeze(2) + back @ (plain @ change + action_slope.unsqueeze(2))
    slope = slope + across.transpose(1, 2) @ change
    curvature = state_curvature + back @ plain @ gain + back @ across + across.transpose(1, 2) @ gain
    return found.place, gain, slope.squeeze(2), (curvature + curvature.transpose(1, 2)) / 2


def _lifted(curvature: Tensor, damping: Tensor) -> Tensor:
    """Curvatures `[R, A, A]` made positive definite, and damped."""
    values, vectors = torch.linalg.eigh((curvature + curvature.transpose(1, 2)) / 2)
    values = values.abs()
    largest = values.amax(1, keepdim=True) + _TINY
    values = values.clamp(min=_LEAST_CURVATURE * largest) + damping.unsqueeze(1) * largest
    return (vectors * values.unsqueeze(1)) @ vectors.transpose(1, 2)


def _rows_of(trajectory: Trajectory, rows: Tensor) -> Trajectory:
    plans, states, *figures = trajectory
    return Trajectory(plans[rows], [select(state, rows) for state in states], *(part[rows] for part in figures))


def _replaced(kept: Trajectory, rows: Tensor, found: Trajectory, better: Tensor) -> Trajectory:
    """`kept` with those of its `rows` that were found `better`."""
    into, taken = rows[better], _rows_of(found, better.nonzero().squeeze(1))
    plans, returns = kept.plans.clone(), kept.returns.clone()
    rewards, ends = kept.rewards.clone(), kept.ends.clone()
    for whole, part in ((plans, taken.plans), (returns, taken.returns), (rewards, taken.rewards), (ends, taken.ends)):
        whole[into] = part
    states = [merge(state, into, new) for state, new in zip(kept.states, taken.states, strict=True)]
    return Trajectory(plans, states, rewards, ends, returns)
