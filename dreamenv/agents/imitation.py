"""A network learns decisions: the likeliest action is to be the planner's, the value what the planner expects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from dreamenv.agents.decisions import Decisions
from dreamenv.agents.options import HELD_OUT, DistillationOptions
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.memory.heads import masked_mean
from dreamenv.noise.base import seeded_weights
from dreamenv.training.fit import FitOptions, Losses, Scalars, fit

# Returns are to fit below the largest value that the network can say, so many times
_ROOM, _LEAST_BOUND = 4.0, 1000.0


def student_of(
    before: PolicyValue | None,
    decisions: Decisions,
    action_space: gym.Space[Any],
    options: DistillationOptions,
    seed: int,
) -> PolicyValue:
    """A copy of the network of the round before, or a fresh one in units of what it is to see."""
    bound = before.critic.head.bound if before else _LEAST_BOUND
    while bound < _ROOM * float(decisions.value.abs().max()):
        bound *= 2
    with seeded_weights(seed):
        network = PolicyValue.fresh(decisions.features.shape[1], action_space, width=options.width, value_bound=bound)
    if before is not None:
        network.load_state_dict(before.state_dict())
        return network
    network.mean.copy_(decisions.features.mean(0))
    # What never changed has no unit
    spread = decisions.features.std(0)
    network.std.copy_(torch.where(spread > 1e-4, spread, 1.0))
    return network


def held_out_rows(rounds: Sequence[Decisions]) -> Tensor:
    """`[N]` bool of the rounds' decisions, one behind the other: one in ten of each round, by its place there, so that
    what is held out of one fit is held out of all."""
    return torch.cat([torch.arange(len(each.value)) % HELD_OUT == 0 for each in rounds])


def learn(
    network: PolicyValue,
    decisions: Decisions,
    held_out: Tensor,
    options: DistillationOptions,
    folder: Path,
    settings: dict[str, Any],
    seed: int,
    progress: Callable[[int, int, Scalars], None],
) -> Scalars:
    """Fit `network` in place, resumably; returns figures on the decisions that are held out.

    Args:
        network: See `student_of`.
        decisions: On the CPU.
        held_out: `[N]` bool, see `held_out_rows`.
        options: Hyperparameters of the fit.
        folder: Of the checkpoint.
        settings: What must be equal for a checkpoint to be continued, ready for JSON.
        seed: Of the batches.
        progress: Called with step, steps and scalars.
    """
    device = network.mean.device
    decisions, held_out = Decisions(*(part.to(device) for part in decisions)), held_out.to(device)
    training = Decisions(*(part[~held_out] for part in decisions))
    unseen = Decisions(*(part[held_out] for part in decisions))

    def of(batch: Decisions) -> Losses:
        features = network.standard(batch.features)
        policy = network.actor.imitation_loss(features, batch.behaviour).mean()
        value = network.critic.loss(features, batch.value).mean()
        return {"loss": policy + options.value_weight * value, "policy": policy, "value": value}

    def losses(step: int) -> Losses:
        rows = np.random.default_rng([seed, step]).integers(len(training.value), size=options.batch_size)
        index = torch.from_numpy(rows).to(device)
        return of(Decisions(*(part[index] for part in training)))

    def validate() -> Scalars:
        scalars = {name: float(value) for name, value in of(unseen).items()}
        spread = float(unseen.value.var(unbiased=False).clamp(min=1e-12))
        missed = float((network.value(unseen.features) - unseen.value).square().mean())
        return scalars | {"agreement": _agreement(network, unseen), "value_explained": 1 - missed / spread}

    fitted = fit(
        network,
        losses,
        validate,
        FitOptions(
            options.steps,
            options.learning_rate,
            clip=10.0,
            validate_every=min(250, options.steps),
            precision="float32",
        ),
        checkpoint=folder / "checkpoint.safetensors",
        settings=settings,
        progress=progress,
    )
    return fitted.best


def _agreement(network: PolicyValue, decisions: Decisions) -> float:
    """Share of decisions in which the likeliest action is the planner's: the same, or within a tenth of a Box."""
    outputs = network.actor.network(network.standard(decisions.features))
    if network.actor.discrete:
        same = outputs.argmax(-1) == decisions.behaviour.argmax(-1)
    else:
        same = ((outputs.chunk(2, -1)[0].tanh() - decisions.behaviour).abs() < 0.2).all(-1)
    return float(masked_mean(same.float(), torch.ones_like(same, dtype=torch.float32)))
