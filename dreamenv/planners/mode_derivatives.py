"""First and second derivatives of a dreamed step in its mode, for many moments at once.

Letters in shapes: M moments, X numbers of a state that are differentiated, A of an action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.states import repeat
from dreamenv.noise.base import NoNoise
from dreamenv.planners.base import TerminalValue

# Below which the probability of an end is taken as constant
_NO_END = 1e-6


class StepDerivatives(NamedTuple):
    """Of M dreamed steps by state and action side by side, float64.

    Attributes:
        following: `[M, X, X + A]`, of the next state.
        reward, end: `[M, X + A]`, of the reward and of the probability of the end.
        reward_curvature, end_curvature: `[M, X + A, X + A]`, their second derivatives.
    """

    following: Tensor
    reward: Tensor
    end: Tensor
    reward_curvature: Tensor
    end_curvature: Tensor


class ValueDerivatives(NamedTuple):
    """What M states are worth, `[M]`, with first `[M, X]` and second `[M, X, X]` derivatives, float64."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


def numbers(state: Any) -> Tensor:
    """What of a state changes smoothly, `[B, X]`: its floating-point fields side by side."""
    return torch.cat([part.flatten(1) for part in state if part.is_floating_point()], dim=1)


def with_numbers(state: Any, values: Tensor) -> Any:
    """`state` with its floating-point fields taken from `values` `[B, X]`."""
    parts, begin = [], 0
    for part in state:
        if part.is_floating_point():
            size = part[0].numel()
            part = values[:, begin : begin + size].reshape(part.shape).to(part.dtype)
            begin += size
        parts.append(part)
    return type(state)(*parts)


def mode_step(memory: MemoryModel[Any], state: Any, action: Tensor) -> tuple[Any, Prediction]:
    """A dreamed step of the mode."""
    return memory.imagine(state, action, noise=NoNoise(action.device), temperature=0.0)


def step_derivatives(memory: MemoryModel[Any], state: Any, action: Tensor) -> StepDerivatives:
    """Derivatives of the step from M states under actions `[M, A]`.

    A row is repeated once for each number that is differentiated, so that one pass backward gives them all.

    Raises:
        ConfigurationError: The step carries no gradient.
        NonFiniteError: A derivative that is NaN or infinite.
    """
    size = numbers(state).shape[1]
    with torch.enable_grad():
        copied, inputs = _copies(state, action, size + 2)
        following, prediction = _step_of(memory, copied, inputs, size)
        outputs = torch.cat(
            [
                numbers(following),
                prediction.reward.unsqueeze(1).float(),
                prediction.termination_probability.unsqueeze(1).float(),
            ],
            dim=1,
        )
        if not outputs.requires_grad:
            raise ConfigurationError(
                f"planner 'ilqr': no gradient comes through {type(memory).__name__} to state and action, although it "
                "says that it is differentiable. Take 'cem', 'mppi' or 'shooting'."
            )
        jacobian = _each_of_its_own(outputs, inputs, size + 2)
    probabilities = prediction.termination_probability.detach()
    may_end = float(probabilities.max()) > _NO_END
    curvatures = [
        _curvature(memory, state, action, "reward"),
        _curvature(memory, state, action, "termination_probability") if may_end else None,
    ]
    none = jacobian.new_zeros(len(jacobian), inputs.shape[1], inputs.shape[1])
    found = StepDerivatives(
        jacobian[:, :size],
        jacobian[:, size],
        jacobian[:, size + 1],
        *(none if part is None else part for part in curvatures),
    )
    if not all(bool(torch.isfinite(part).all()) for part in found):
        raise NonFiniteError(
            f"a derivative of {type(memory).__name__} is not finite where the plan leads; shorten the horizon, or take "
            "'cem'"
        )
    return found


def value_derivatives(memory: MemoryModel[Any], state: Any, terminal_value: TerminalValue | None) -> ValueDerivatives:
    """What M states are worth beyond a plan's end, by `terminal_value` or by the memory; 0 where neither knows."""
    size = numbers(state).shape[1]
    nothing = torch.zeros(len(state[0]), dtype=torch.float64, device=state[0].device)
    none = ValueDerivatives(nothing, nothing.new_zeros(len(nothing), size), nothing.new_zeros(len(nothing), size, size))
    with torch.enable_grad():
        copied = repeat(state, size)
        inputs = numbers(copied).detach().requires_grad_()
        seen = with_numbers(copied, inputs)
        worth = memory.value(seen) if terminal_value is None else terminal_value(memory.features(seen))
        if worth is None:
            return none
        value = worth.detach().view(-1, size)[:, 0].double()
        if not worth.requires_grad:
            return none._replace(value=value)
        (slope,) = torch.autograd.grad(worth.sum(), inputs, create_graph=True)
        curvature = _each_of_its_own(slope, inputs, size) if slope.requires_grad else none.curvature
    return ValueDerivatives(value, slope.detach().view(-1, size, size)[:, 0].double(), curvature)


def _copies(state: Any, action: Tensor, times: int) -> tuple[Any, Tensor]:
    copied = repeat(state, times)
    inputs = torch.cat([numbers(copied), action.repeat_interleave(times, dim=0)], dim=1)
    return copied, inputs.detach().requires_grad_()


def _step_of(memory: MemoryModel[Any], state: Any, inputs: Tensor, size: int) -> tuple[Any, Prediction]:
    return mode_step(memory, with_numbers(state, inputs[:, :size]), inputs[:, size:])


def _each_of_its_own(outputs: Tensor, inputs: Tensor, times: int) -> Tensor:
    """`[M, times, I]` float64: copy k of a row gives the gradient of its output k."""
    chosen = outputs.view(-1, times, times).diagonal(dim1=1, dim2=2).sum()
    (found,) = torch.autograd.grad(chosen, inputs)
    return found.view(-1, times, inputs.shape[1]).double()


def _curvature(memory: MemoryModel[Any], state: Any, action: Tensor, name: str) -> Tensor | None:
    """`[M, X + A, X + A]`, the second derivatives of a figure of the prediction; None where it has none."""
    size = numbers(state).shape[1]
    with torch.enable_grad():
        copied, inputs = _copies(state, action, size + action.shape[1])
        figure = getattr(_step_of(memory, copied, inputs, size)[1], name)
        if not figure.requires_grad:
            return None
        (slope,) = torch.autograd.grad(figure.sum(), inputs, create_graph=True)
        return _each_of_its_own(slope, inputs, inputs.shape[1]) if slope.requires_grad else None
