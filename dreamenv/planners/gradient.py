"""Planning by gradients: actions are moved to where the dreamed return rises."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel
from dreamenv.noise.base import Noise, NoNoise
from dreamenv.noise.branching import CommonNoise
from dreamenv.planners.arguments import check_count, check_positive
from dreamenv.planners.imagined_return import discounted_return
from dreamenv.planners.mode_planner import ModePlanner
from dreamenv.planners.sequence_planner import Found
from dreamenv.planners.sequences import BoxSequences
from dreamenv.world_model import WorldModel

# Decay of Adam's averages of the gradient and of its square; few steps want a short memory
_DECAYS = 0.8, 0.95
# Below which a gradient is none
_SMALLEST_SLOPE = 1e-12


@dataclass(frozen=True, kw_only=True)
class GradientPlanner(ModePlanner):
    """Climbs the dreamed return by its gradient in the actions, from several starts; the best plan seen is the answer.

    Backpropagation through the model as in Henaff, Whitney & LeCun 2017, "Model-based planning with discrete and
    continuous actions", by Adam (Kingma & Ba 2015) with steps that shrink linearly to 0. After each step a plan is put
    back into the bounds. Departures: the starts are the shifted plan of the moment before and uniform draws, and no
    plan is returned that is worse than the one that the search began with.

    One call costs (iterations + 1) · horizon calls of `imagine` over B · starts · particles rows, and as many backward;
    a policy is one more start, and costs horizon calls over B rows.

    Attributes:
        particles: Dreams a plan, whose returns are averaged. In the mode they differ only by what the memory draws once
            a dream, such as the member of an ensemble of "episode" propagation.
        rate: Of the first step, where 1 is half the range of the actions.

    The others are those of `ModePlanner`.
    """

    scheme: ClassVar[str] = "gradient"

    particles: int = 1
    rate: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(particles=self.particles)
        check_positive(rate=self.rate)

    def _branch(self, world_model: WorldModel, state: Any, starts: int, noise: Noise) -> Any:
        common = CommonNoise(noise, len(state[0]), starts)
        return world_model.memory.branch(state, starts * self.particles, noise=common)

    def _improve(self, world_model: WorldModel, state: Any, plans: Tensor, sequences: BoxSequences) -> Found:
        best, value = plans, torch.full((len(plans),), -torch.inf, dtype=torch.float64, device=plans.device)
        mean = torch.zeros_like(plans)
        square = torch.zeros_like(plans)
        for step in range(self.iterations + 1):
            returns, slope = self._slope(world_model.memory, state, sequences.actions(plans))
            # A return that is NaN must be seen: it counts as better, and the caller refuses it
            better = ~(returns <= value)
            best = torch.where(better.view(-1, 1, 1), plans, best)
            value = torch.where(better, returns, value)
            if step == self.iterations:
                break
            slope = slope * sequences.half_range
            mean = _DECAYS[0] * mean + (1 - _DECAYS[0]) * slope
            square = _DECAYS[1] * square + (1 - _DECAYS[1]) * slope.square()
            unbiased = [part / (1 - decay ** (step + 1)) for part, decay in zip((mean, square), _DECAYS, strict=True)]
            move = unbiased[0] / unbiased[1].sqrt().clamp(min=_SMALLEST_SLOPE)
            plans = (plans + self.rate * (1 - step / self.iterations) * move).clamp(-1, 1)
        return Found(best, value)

    def _slope(self, memory: MemoryModel[Any], state: Any, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns `[R]` of action sequences `[R, L, A]`, and their gradients in them."""
        with torch.enable_grad():
            actions = actions.detach().requires_grad_()
            dream = partial(memory.imagine, noise=NoNoise(actions.device), temperature=0.0)
            each = discounted_return(
                memory,
                dream,
                state,
                actions.repeat_interleave(self.particles, dim=0),
                discount=self.discount,
                terminal_value=self.terminal_value,
            )
            returns = each.view(-1, self.particles).mean(1)
            if not returns.requires_grad:
                raise ConfigurationError(
                    f"planner {self.scheme!r}: no gradient comes through {type(memory).__name__} to the actions, "
                    "although it says that it is differentiable. Take 'cem', 'mppi' or 'shooting'."
                )
            (slope,) = torch.autograd.grad(returns.sum(), actions)
        return returns.detach(), slope
