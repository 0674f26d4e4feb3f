"""The dreamed return of plans: one batched dream for all candidates of all rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dreamenv.errors import NonFiniteError
from dreamenv.memory.base import MemoryModel, Prediction, Stepper
from dreamenv.noise.base import Noise, as_noise
from dreamenv.noise.branching import CommonNoise
from dreamenv.planners.base import Policy, TerminalValue
from dreamenv.world_model import WorldModel

# From a state of R rows and their actions to the next state and what is predicted of it
DreamedStep = Callable[[Any, Tensor], tuple[Any, Prediction]]


@torch.no_grad()
def imagined_returns(
    world_model: WorldModel,
    state: Any,
    actions: Tensor,
    *,
    noise: torch.Generator | Noise,
    discount: float = 1.0,
    temperature: float | None = None,
    particles: int = 1,
    common_noise: bool = True,
    terminal_value: TerminalValue | None = None,
    stepper: Stepper[Any] | None = None,
) -> Tensor:
    """Expected discounted returns of open-loop plans.

    R = Σ_t γ^t (Π_{k<t} c_k) r_t + γ^L (Π_k c_k) V(s_L), where r is the predicted reward and c = 1 - the predicted
    probability of the end; the mean over the particles. All B·N·P dreams are one `imagine` a step.

    Args:
        world_model: The dream.
        state: Memory state of B rows.
        actions: `[B, N, L, A]` float32 (Box) or `[B, N, L]` int64 (Discrete): N plans a row.
        noise: Draws the dreams' noise.
        discount: γ per dreamed step.
        temperature: Of the dream; None takes the model's own.
        particles: P, dreams a plan.
        common_noise: All plans of a row meet the same P draws of noise.
        terminal_value: V, of features; None takes the memory's own value, and nothing where it has none.
        stepper: The dreamed step, for callers that dream more than once; None makes one.

    Returns:
        `[B, N]` float64 in units of the real environment.

    Raises:
        NonFiniteError: A return that is NaN or infinite.
    """
    rows, candidates, length = actions.shape[:3]
    noise = as_noise(noise)
    if common_noise:
        noise = CommonNoise(noise, rows, candidates)
    temperature = world_model.temperature if temperature is None else temperature
    memory = world_model.memory
    if stepper is None:
        stepper = memory.stepper(rows * candidates * particles)
    # Each particle of a plan is a branch of its own: what a memory draws once a dream is drawn for it here
    state = memory.branch(state, candidates * particles, noise=noise)
    actions = actions.flatten(0, 1).repeat_interleave(particles, dim=0)
    dream = partial(stepper, noise=noise, temperature=temperature)
    total = discounted_return(memory, dream, state, actions, discount=discount, terminal_value=terminal_value)
    if not bool(torch.isfinite(total).all()):
        raise NonFiniteError(
            "a dreamed return is not finite: the observation was not, or the memory model diverges at this "
            f"temperature ({temperature:g}) or horizon ({length})"
        )
    return total.view(rows, candidates, particles).mean(2)


def discounted_return(
    memory: MemoryModel[Any],
    dream: DreamedStep,
    state: Any,
    actions: Tensor,
    *,
    discount: float,
    terminal_value: TerminalValue | None,
) -> Tensor:
    """The sum that `imagined_returns` describes, of R dreams, one a plan; it carries gradients if `dream` does.

    Args:
        memory: The model.
        dream: A dreamed step, from a state of R rows and their actions.
        state: Of R rows.
        actions: `[R, L, A]` or `[R, L]`.
        discount, terminal_value: As for `imagined_returns`.

    Returns:
        `[R]` float64.
    """
    total = torch.zeros(len(actions), dtype=torch.float64, device=actions.device)
    reached = torch.ones_like(total)
    for step in range(actions.shape[1]):
        state, prediction = dream(state, actions[:, step])
        total = total + reached * prediction.reward.double()
        reached = reached * discount * (1 - prediction.termination_probability.double())
    worth = memory.value(state) if terminal_value is None else terminal_value(memory.features(state))
    return total if worth is None else total + reached * worth.double()


def actions_of(
    policy: Policy, memory: MemoryModel[Any], dream: DreamedStep, state: Any, steps: int, *, held: int = 1
) -> Tensor:
    """The plans that a policy follows in R dreams.

    Args:
        policy: What acts.
        memory: The model.
        dream: A dreamed step.
        state: Of R rows.
        steps: Dreamed steps.
        held: Steps for which each action is held.

    Returns:
        `[R, K, A]` or `[R, K]`, an action for each `held` steps.
    """
    actions = []
    for step in range(steps):
        if step % held == 0:
            actions.append(policy(memory.features(state)))
        state, _ = dream(state, actions[-1])
    return torch.stack(actions, dim=1)
