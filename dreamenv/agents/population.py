"""A whole population of linear controllers scored in one batched dream."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.agents.action_map import ActionMap
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.memory.states import select
from dreamenv.noise.branching import SharedNoise
from dreamenv.types import Start
from dreamenv.world_model import WorldModel

# What is left of a dream when it may be forgotten, as a share.
LEAST_REACHED = 0.02


def weight_shape(
    world_model: WorldModel, *, observation: str = "features", action_map: str | None = None
) -> tuple[int, int]:
    """Shape `(outputs, F + 1)` of a linear controller's weights for this model; the last column is the bias."""
    if observation not in ("features", "latent"):
        raise ConfigurationError(f"a linear controller reads 'features' or 'latent', got {observation!r}")
    size = world_model.observation_space(observation).shape[0]
    return ActionMap(world_model.action_space, action_map).outputs, size + 1


def initial_weights(
    world_model: WorldModel, *, observation: str = "features", action_map: str | None = None
) -> NDArray[np.float64]:
    """Where a search begins: `[outputs, F + 1]` zeros, the controller of no preference."""
    return np.zeros(weight_shape(world_model, observation=observation, action_map=action_map))


def score_population(
    world_model: WorldModel,
    weights: Tensor | NDArray[np.floating],
    *,
    rollouts: int,
    generator: torch.Generator,
    horizon: int | None = None,
    temperature: float | None = None,
    start: Start = "initial",
    observation: str = "features",
    action_map: str | None = None,
    expected: bool = False,
    max_batch: int = 16384,
    compact_below: float = 0.75,
    precision: str = "auto",
) -> Tensor:
    """Dreamed returns of P linear controllers, R rollouts each.

    Candidates share start states and noise (common random numbers): equal controllers get equal returns (up to
    the rounding of a product, which may depend on a row's place), and the difference between two is their own.
    Ended dreams leave the batch once enough have ended for the copy to pay.

    Args:
        weights: `[P, outputs, F + 1]`; the last column is the bias.
        rollouts: R, dreams a candidate.
        generator: Draws one key from which all start states and noise of this call follow.
        horizon: Longest dream in actions; None takes the model's limit.
        temperature: None takes the model's own.
        start: "first", "initial" or "replay"; see `DreamEnv`.
        expected: Weigh each reward by the probability that the task still goes on, in place of ending the dream by
            chance: of the same mean, with the variance of the ends taken out (the Rao-Blackwell estimator). A dream
            leaves when less than `LEAST_REACHED` of it is left.
        max_batch: Most dreams at once; larger populations are scored in parts, with the same numbers.
        compact_below: Ended dreams leave when the share of living ones falls below this; 0 keeps them all.
        precision: Of the dream's products, as for `DreamVectorEnv` with P * R dreams.

    Returns:
        `[P, R]` float64 on the model's device: undiscounted sums of predicted reward up to termination or `horizon`.

    Raises:
        ConfigurationError: An argument out of range.
        SpaceMismatchError: Weights of a shape that does not fit the model.
        NonFiniteError: A return that is NaN or infinite.
    """
    horizon = world_model.max_episode_steps if horizon is None else horizon
    temperature = world_model.temperature if temperature is None else temperature
    for name, value in (("rollouts", rollouts), ("horizon", horizon), ("max_batch", max_batch)):
        if value < 1:
            raise ConfigurationError(f"{name} must be at least 1, got {value}")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ConfigurationError(f"temperature must be finite and at least 0, got {temperature}")
    if not 0 <= compact_below <= 1:
        raise ConfigurationError(f"compact_below must be in [0, 1], got {compact_below}")
    starts = world_model.start_count(start)
    device = world_model.device
    candidates = torch.as_tensor(weights, dtype=torch.float32, device=device)
    shape = weight_shape(world_model, observation=observation, action_map=action_map)
    if candidates.ndim != 3 or tuple(candidates.shape[1:]) != shape or len(candidates) == 0:
        raise SpaceMismatchError(
            f"got weights of shape {tuple(candidates.shape)}, expected (P, {shape[0]}, {shape[1]})"
        )
    to_action = ActionMap(world_model.action_space, action_map).to(device)
    memory = world_model.memory
    stepper = memory.stepper(len(candidates) * rollouts, precision=precision)
    key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))

    def score(part: Tensor) -> Tensor:
        own = torch.Generator(device).manual_seed(key)
        index = torch.randint(starts, (rollouts,), generator=own, device=device)
        noise = SharedNoise(own, rollouts)
        state = world_model.start(index, start=start, noise=noise)
        rows = len(part) * rollouts
        slots = torch.arange(rows, device=device)  # candidate * rollouts + rollout
        noise.rollout = slots % rollouts
        state = select(state, noise.rollout)
        returns = torch.zeros(rows, dtype=torch.float64, device=device)
        alive = torch.ones(rows, dtype=torch.bool, device=device)
        reached = torch.ones(rows, dtype=torch.float64, device=device)
        policy = _PopulationPolicy(part, rollouts, to_action)
        for _ in range(horizon):
            action = policy(world_model.observation(state, observation), slots)
            state, prediction = stepper(state, action, noise=noise, temperature=temperature)
            returns[slots] += torch.where(alive, prediction.reward, 0.0).double() * reached[slots]
            if expected:
                reached[slots] *= 1 - prediction.termination_probability.double()
                alive = alive & (reached[slots] >= LEAST_REACHED)
            else:
                alive = alive & ~prediction.terminated
            living = int(alive.sum())
            if living == 0:
                break
            if living < compact_below * len(slots):
                keep = alive.nonzero()[:, 0]
                state, slots, alive = select(state, keep), slots[keep], alive[keep]
                noise.rollout = slots % rollouts
        return returns.view(len(part), rollouts)

    with torch.inference_mode():
        parts = candidates.split(max(1, max_batch // rollouts))
        returns = torch.cat([score(part) for part in parts])
    if not bool(torch.isfinite(returns).all()):
        bad = int((~torch.isfinite(returns)).any(dim=1).nonzero()[0, 0])
        raise NonFiniteError(
            f"candidate {bad} of {len(returns)} has a dreamed return that is not finite; "
            "the memory model diverges at this temperature or horizon"
        )
    return returns.clone()


class _PopulationPolicy:
    """Actions of all candidates in one batched matrix product."""

    def __init__(self, weights: Tensor, rollouts: int, to_action: ActionMap) -> None:
        self._matrix = weights[:, :, :-1].transpose(1, 2).contiguous()  # [P, F, outputs]
        self._bias = weights[:, None, :, -1].contiguous()  # [P, 1, outputs]
        self._rows = len(weights) * rollouts
        self._to_action = to_action
        self._padded = torch.zeros(self._rows, weights.shape[2] - 1, device=weights.device)

    def __call__(self, features: Tensor, slots: Tensor) -> Tensor:
        """Actions of `features` `[B, F]`, whose rows lie in `slots` `[B]` of the uncompacted batch."""
        full = len(slots) == self._rows
        # The product keeps its shape after rows have left, so that its rounding does too.
        padded = features if full else self._padded.index_copy_(0, slots, features)
        outputs = torch.baddbmm(self._bias, padded.view(len(self._matrix), -1, padded.shape[1]), self._matrix)
        flat = outputs.view(self._rows, -1)
        return self._to_action(flat if full else flat[slots])
