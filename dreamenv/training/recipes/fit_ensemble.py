"""Fitting a probabilistic ensemble to real transitions, again and again as they grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.bundle import StartStates
from dreamenv.data.preprocess import at_own_speed
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.noise.base import seeded_weights
from dreamenv.options import options_from
from dreamenv.training.checkpoint import load_training, save_training
from dreamenv.training.fit import Scalars
from dreamenv.training.transitions import Transitions, held_out_rows
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

# A checkpoint is written at the end of an epoch, but no sooner than this after the last one.
_STEPS_BETWEEN_CHECKPOINTS = 200


@dataclass(frozen=True)
class EnsembleFitOptions:
    """Hyperparameters of `fit_ensemble`.

    Attributes:
        held_out: Share of the transitions that is held out, at most a half and 5,000; one in `round(1 / held_out)`.
        batch_size: Transitions a member and step.
        learning_rate: Adam's.
        weight_decay: L2 penalty on the members' weights.
        patience: Epochs without improvement after which training stops.
        improvement: What counts as improvement, as a share.
        max_epochs: Epochs at most.
        max_steps: Optimiser steps at most; None sets no limit.
        beta: Each likelihood counts by its variance to this power, in [0, 1] (β-NLL, Seitzer et al. 2022). With 0, the
            likelihood itself, what is rarely seen, such as the reward at a goal, passes for noise: its variance grows
            before its mean is learned. With 1 the means are learned as by squared errors.
    """

    held_out: float = 0.2
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 5e-5
    patience: int = 5
    improvement: float = 0.01
    max_epochs: int = 200
    max_steps: int | None = None
    beta: float = 0.0

    def __post_init__(self) -> None:
        if (
            not 0 < self.held_out <= 0.5
            or min(self.batch_size, self.patience, self.max_epochs) < 1
            or not 0 <= self.improvement < 1
        ):
            raise ConfigurationError(
                "need 0 < held_out <= 0.5, 0 <= improvement < 1, and batch_size, patience, max_epochs of at least 1; "
                f"got {self.held_out}, {self.improvement}, {self.batch_size}, {self.patience}, {self.max_epochs}"
            )
        if not (self.learning_rate > 0 and self.weight_decay >= 0) or (
            self.max_steps is not None and self.max_steps < 1
        ):
            raise ConfigurationError(
                "need learning_rate above 0, weight_decay of at least 0 and max_steps of at least 1; got "
                f"{self.learning_rate}, {self.weight_decay}, {self.max_steps}"
            )
        if not 0 <= self.beta <= 1:
            raise ConfigurationError(f"beta must be in [0, 1], got {self.beta}")


@dataclass(frozen=True)
class EnsembleFit:
    """How a fit ended.

    Attributes:
        epochs: Passes over the training data.
        steps: Optimiser steps.
        held_out_error: `[E]` mean squared error of each member, with the weights that it got, on held-out transitions,
            normalised units.
        termination: Lowest held-out loss of the termination head, nats.
    """

    epochs: int
    steps: int
    held_out_error: NDArray[np.float64]
    termination: float


# What an improvement of the termination head has to be to prolong a fit
_NATS = 1e-3
# Squared error, as a share of the variance, below which an output is as good as known
_KNOWN = 1e-6


class _Best:
    """The best weights so far, member by member, and those of the termination head."""

    def __init__(self, memory: ProbabilisticEnsemble, varies: NDArray[np.bool_] | None = None) -> None:
        self._varies = varies
        self.error = np.full((memory.members, len(memory.change_std)), np.inf)
        self.termination = math.inf
        self._members = list(memory.networks.linear.parameters())
        self._head = list(memory.termination_head.parameters())
        self._kept_members = [part.detach().clone() for part in self._members]
        self._kept_head = [part.detach().clone() for part in self._head]

    @torch.no_grad()
    def update(self, error: NDArray[np.float64], termination: float, improvement: float) -> bool:
        """Keep what has become better by more than the share `improvement`; whether anything has, the termination head
        by a thousandth of a nat at least. `error` is `[E, Z + 1]`, see `level`."""
        better = level(error, self._varies) < level(self.error, self._varies) * (1 - improvement)
        index = torch.from_numpy(np.flatnonzero(better)).to(self._members[0].device)
        for kept, part in zip(self._kept_members, self._members, strict=True):
            kept[index] = part[index]
        self.error = np.where(better[:, None], error, self.error)
        head_better = termination < self.termination * (1 - improvement)
        # Where nothing ends, its loss becomes a hundredth smaller with every epoch for good
        head_counts = head_better and self.termination - termination > _NATS
        if head_better:
            self.termination = termination
            for kept, part in zip(self._kept_head, self._head, strict=True):
                kept.copy_(part)
        return bool(better.any()) or head_counts

    @torch.no_grad()
    def restore(self) -> None:
        for part, kept in zip((*self._members, *self._head), (*self._kept_members, *self._kept_head), strict=True):
            part.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """What is kept, by name, for a checkpoint."""
        return {str(number): part for number, part in enumerate((*self._kept_members, *self._kept_head))}

    def load(self, tensors: dict[str, Tensor], error: list[list[float]], termination: float) -> None:
        """The inverse of `tensors`."""
        for number, part in enumerate((*self._kept_members, *self._kept_head)):
            part.copy_(tensors[str(number)])
        self.error, self.termination = np.array(error), termination


def level(error: NDArray[np.float64], varies: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """`[E]`, by which members and epochs are compared: the geometric mean over the outputs of squared errors
    `[E, Z + 1]`.

    In a plain mean an output that cannot be predicted, such as a contact's force, outweighs those that can: what it
    does by chance then ends a fit while all others still become better. In a geometric mean one that never changes
    would do the same, so only those that vary (`[Z + 1]`, None: all) count.
    """
    if varies is not None and varies.any():
        error = error[:, varies]
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = np.exp(np.log(np.maximum(error, _KNOWN)).mean(1))
    return found


def fit_ensemble(
    memory: ProbabilisticEnsemble,
    transitions: Transitions,
    options: EnsembleFitOptions | None = None,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int, Scalars], None] = lambda epoch, epochs, scalars: None,
) -> EnsembleFit:
    """Train `memory` in place from the weights it has, and choose its elites.

    As in Janner et al. 2019: each member has its own bootstrap sample of the training data; a share of the transitions
    is held out; training stops when no member's squared error there has become smaller for `patience` epochs; each
    member gets the weights of its best epoch, and the elites are the members of the lowest error. Departure: errors are
    compared by their geometric mean over the outputs (`level`). Whether transition i is held out depends on `seed` and
    i alone, so that it stays so as the data grow. It is a loop of its own and not `training.fit`, because the number of
    steps follows from the data and each member has its own best epoch.

    Args:
        memory: The ensemble.
        transitions: Real transitions; at least 2 of each kind.
        options: Hyperparameters; None takes the defaults.
        seed: Held-out data, bootstrap samples, batches.
        checkpoint: File from which a fit that was killed continues, to the same weights; None writes nothing, for
            algorithms that call this hundreds of times in a run.
        settings: What must agree for a checkpoint to be continued; JSON-ready.
        progress: Called after each epoch with epoch, max_epochs and scalars.

    Raises:
        ConfigurationError: Too few transitions, or a checkpoint of a fit with other settings.
        NonFiniteError: A loss became NaN or infinite; the weights are those of the best epoch before it.
    """
    options = options or EnsembleFitOptions()
    aside = held_out_rows(len(transitions), options.held_out, seed)
    if min(aside.sum(), (~aside).sum()) < 2:
        raise ConfigurationError(
            f"{len(transitions)} transitions leave {(~aside).sum()} to train on and {aside.sum()} held out; expected "
            "at least 2 of each. Collect more before the first fit."
        )
    device = memory.device
    training = [torch.from_numpy(np.ascontiguousarray(part[~aside])).to(device) for part in vars(transitions).values()]
    validation = [torch.from_numpy(np.ascontiguousarray(part[aside])).to(device) for part in vars(transitions).values()]
    memory.set_scale(training[0], training[2], training[3])
    rng = np.random.default_rng([seed, len(transitions)])
    rows = len(training[0])
    bootstrap = rng.integers(rows, size=(memory.members, rows))
    optimiser = _optimiser(memory, options)
    varies = _varies(training[0], training[2], training[3])
    best = _Best(memory, varies)
    settings = (settings or {}) | asdict(options) | {"seed": seed, "memory": memory.config()}
    state = {"epoch": 0, "steps": 0, "stale": 0}
    if checkpoint is not None and checkpoint.exists():
        kept, record = load_training(checkpoint, memory, optimiser, settings)
        best.load(kept, record["error"], record["termination"])
        rng.bit_generator.state = record["rng"]
        state = record["state"]
    else:
        best.update(*_held_out_losses(memory, validation), improvement=0.0)
    saved = state["steps"]
    try:
        while not _ended(state, options):
            memory.train()
            order = rng.permuted(bootstrap, axis=1)
            begins = range(0, rows, options.batch_size)
            for begin in begins[: None if options.max_steps is None else options.max_steps - state["steps"]]:
                index = torch.from_numpy(order[:, begin : begin + options.batch_size]).to(device)
                _step(memory, optimiser, [part[index] for part in training], options.beta)
                state["steps"] += 1
            memory.eval()
            error, termination = _held_out_losses(memory, validation)
            better = best.update(error, termination, options.improvement)
            state |= {"stale": 0 if better else state["stale"] + 1, "epoch": state["epoch"] + 1}
            due = _ended(state, options) or state["steps"] - saved >= _STEPS_BETWEEN_CHECKPOINTS
            if checkpoint is not None and due:
                record = {"settings": settings, "state": state, "rng": rng.bit_generator.state}
                record |= {"error": best.error.tolist(), "termination": best.termination}
                save_training(checkpoint, memory, optimiser, best.tensors(), record)
                saved = state["steps"]
            scalars = {"held_out/error": float(error.mean()), "held_out/termination": termination}
            progress(state["epoch"], options.max_epochs, scalars)
    finally:
        memory.eval()
        best.restore()
    memory.elite_members.copy_(torch.from_numpy(np.argsort(level(best.error, varies), kind="stable")[: memory.elites]))
    return EnsembleFit(state["epoch"], state["steps"], best.error.mean(1), best.termination)


def _ended(state: dict[str, int], options: EnsembleFitOptions) -> bool:
    finished = options.max_steps is not None and state["steps"] >= options.max_steps
    return finished or state["epoch"] >= options.max_epochs or state["stale"] >= options.patience


def _optimiser(memory: ProbabilisticEnsemble, options: EnsembleFitOptions) -> torch.optim.Adam:
    """Adam with the penalty on the members' weights alone."""
    weights = [part for name, part in memory.networks.linear.named_parameters() if name.endswith("weight")]
    decayed = {id(part) for part in weights}
    others = [part for part in memory.parameters() if id(part) not in decayed]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": options.weight_decay}, {"params": others}]
    return torch.optim.Adam(groups, lr=options.learning_rate)


def _step(memory: ProbabilisticEnsemble, optimiser: torch.optim.Adam, batch: list[Tensor], beta: float) -> None:
    latents, actions, next_latents, rewards, terminated = batch
    optimiser.zero_grad(set_to_none=True)
    # Summed over the members, so that each learns as if it were alone.
    nll = memory.likelihood(latents, actions, next_latents, rewards, beta=beta).mean((1, 2)).sum()
    ends = memory.termination_loss(latents, actions, next_latents, terminated.float()).mean()
    loss = nll + ends + memory.networks.bound_penalty()
    if not math.isfinite(float(loss.detach())):
        raise NonFiniteError(
            f"the ensemble's loss is {float(loss.detach())}; its weights are those of the best epoch before. "
            "Check the transitions, or take a smaller learning rate."
        )
    loss.backward()
    optimiser.step()


def _varies(latents: Tensor, next_latents: Tensor, rewards: Tensor) -> NDArray[np.bool_]:
    """`[Z + 1]`, whether a latent's change, or the reward, is not always the same."""
    outcome = torch.cat([next_latents - latents, rewards.unsqueeze(1)], 1)
    found: NDArray[np.bool_] = (outcome.amax(0) > outcome.amin(0)).cpu().numpy()
    return found


@torch.no_grad()
def _held_out_losses(memory: ProbabilisticEnsemble, data: list[Tensor]) -> tuple[NDArray[np.float64], float]:
    """Squared errors `[E, Z + 1]`, normalised units, and the termination head's loss."""
    latents, actions, next_latents, rewards, terminated = data
    outcome = torch.cat([next_latents - latents, rewards.unsqueeze(1)], 1)
    mean = memory.gaussian(latents, actions).mean
    error = (mean - (outcome - memory.change_mean) / memory.change_std).square().mean(1)
    ends = memory.termination_loss(latents, actions, next_latents, terminated.float()).mean()
    return error.double().cpu().numpy(), float(ends)


def refit_ensemble(
    memory: ProbabilisticEnsemble, transitions: Transitions, options: Mapping[str, Any], *, seed: int
) -> dict[str, float]:
    """`fit_ensemble` as `dreamenv.training.refits.REFITS` has it; `options` are fields of `EnsembleFitOptions`."""
    found = fit_ensemble(memory, transitions, options_from(EnsembleFitOptions, options, where="fit_options"), seed=seed)
    return {
        "held_out_error": float(found.held_out_error.mean()),
        "termination_loss": found.termination,
        "fit_steps": found.steps,
    }


def ensemble_world_model(env: gym.Env[Any, Any], *, seed: int = 0, **options: Any) -> WorldModel:
    """A world model of `env` whose memory is an ensemble that has not been fitted yet.

    The latent is the observation itself. There are no start states: branches begin at real moments.

    Args:
        env: An environment of vector observations that `gym.make` has made; it is not stepped.
        seed: Of the initial weights.
        options: Keyword arguments of `ProbabilisticEnsemble`.

    Raises:
        ConfigurationError: Observations that are no vector, actions that M cannot take, or no `spec` or time limit.
    """
    space, spec = env.observation_space, env.spec
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ConfigurationError(f"observations {space}; an ensemble takes a Box of one dimension, pictures want V")
    if spec is None or spec.max_episode_steps is None:
        raise ConfigurationError(
            "the environment has no spec with max_episode_steps; make it by gym.make(id, max_episode_steps=N)"
        )
    with seeded_weights(seed):
        memory = ProbabilisticEnsemble(space.shape[0], env.action_space, **options)
    return WorldModel(
        IdentityVision(space.shape[0]),
        memory,
        at_own_speed(RealEnvSpec(spec.id, dict(spec.kwargs), max_episode_steps=spec.max_episode_steps), env),
        env.action_space,
        StartStates(torch.zeros(0, space.shape[0])),
        max_episode_steps=spec.max_episode_steps,
    )
