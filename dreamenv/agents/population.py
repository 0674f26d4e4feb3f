"""A whole population of linear controllers scored in one batched dream."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.agents.action_map import ActionMap
from dreamenv.agents.action_noise import ActionNoise
from dreamenv.agents.options import PopulationOptions
from dreamenv.envs.rollout import checked_threshold
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.memory.base import Prediction
from dreamenv.memory.states import select
from dreamenv.noise.branching import SharedNoise
from dreamenv.world_model import WorldModel, check_temperature

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
    options: PopulationOptions,
    *,
    generator: torch.Generator,
) -> Tensor:
    """Dreamed returns of P linear controllers, R rollouts each.

    Candidates share start states and noise (common random numbers): equal controllers get equal returns (up to
    the rounding of a product, which may depend on a row's place), and the difference between two is their own.
    Ended dreams leave the batch once enough have ended for the copy to pay.

    Args:
        weights: `[P, outputs, F + 1]`; the last column is the bias.
        options: How they are dreamed.
        generator: Draws one key from which all start states and noise of this call follow.

    Returns:
        `[P, R]` float64 on the model's device: undiscounted sums of predicted reward up to termination or `horizon`.

    Raises:
        ConfigurationError: Start states or an observation that the model does not have, noise that its actions cannot
            have, or `max_disagreement` without an ensemble.
        SpaceMismatchError: Weights of a shape that does not fit the model.
        NonFiniteError: A return that is NaN or infinite.
    """
    candidates = torch.as_tensor(weights, dtype=torch.float32, device=world_model.device)
    shape = weight_shape(world_model, observation=options.observation, action_map=options.action_map)
    if candidates.ndim != 3 or tuple(candidates.shape[1:]) != shape or len(candidates) == 0:
        raise SpaceMismatchError(
            f"got weights of shape {tuple(candidates.shape)}, expected (P, {shape[0]}, {shape[1]})"
        )
    dream = _PopulationDream(world_model, options, len(candidates))
    key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
    with torch.inference_mode():
        parts = candidates.split(max(1, options.max_batch // options.rollouts))
        returns = torch.cat([dream.returns(part, key) for part in parts])
    if not bool(torch.isfinite(returns).all()):
        bad = int((~torch.isfinite(returns)).any(dim=1).nonzero()[0, 0])
        raise NonFiniteError(
            f"candidate {bad} of {len(returns)} has a dreamed return that is not finite; "
            "the memory model diverges at this temperature or horizon"
        )
    return returns.clone()


class _PopulationDream:
    """The dream in which the parts of a population are scored, with the same start states and noise for each."""

    def __init__(self, world_model: WorldModel, options: PopulationOptions, candidates: int) -> None:
        self._model = world_model
        self._options = options
        self._starts = world_model.start_count(options.start)
        self._horizon = world_model.max_episode_steps if options.horizon is None else options.horizon
        self._temperature = world_model.temperature if options.temperature is None else options.temperature
        check_temperature(self._temperature)
        self._to_action = ActionMap(world_model.action_space, options.action_map).to(world_model.device)
        self._disturb = ActionNoise(world_model.action_space, options.action_noise)
        self._most_disagreement = checked_threshold(options.max_disagreement, world_model)
        self._stepper = world_model.memory.stepper(candidates * options.rollouts, precision=options.precision)

    def returns(self, part: Tensor, key: int) -> Tensor:
        """Returns `[P, R]` of the candidates `part` `[P, outputs, F + 1]`; `key` fixes start states and noise."""
        model, options = self._model, self._options
        own = torch.Generator(model.device).manual_seed(key)
        index = torch.randint(self._starts, (options.rollouts,), generator=own, device=model.device)
        noise = SharedNoise(own, options.rollouts)
        state = model.start(index, start=options.start, noise=noise)
        tally = _Tally(len(part) * options.rollouts, model.device, options)
        noise.rollout = tally.slots % options.rollouts
        state = select(state, noise.rollout)
        policy = _PopulationPolicy(part, options.rollouts, self._to_action)
        for _ in range(self._horizon):
            action = policy(model.observation(state, options.observation), tally.slots)
            action = self._disturb(action, noise)
            tally.cut(self._untrusted(state, action))
            state, prediction = self._stepper(state, action, noise=noise, temperature=self._temperature)
            tally.count(prediction)
            living = int(tally.alive.sum())
            if living == 0:
                break
            if living < options.compact_below * len(tally.slots):
                state = select(state, tally.keep_living())
                noise.rollout = tally.slots % options.rollouts
        return tally.returns.view(len(part), options.rollouts)

    def _untrusted(self, state: Any, action: Tensor) -> Tensor | None:
        """`[B]` bool, the dreams whose next step nobody should believe; None where all are believed."""
        most = self._most_disagreement
        if most is None:
            return None
        apart: Tensor | None = self._model.memory.disagreement(state, action)
        return None if apart is None else apart > most


class _Tally:
    """Returns of a batch of dreams, and which of them still go on.

    Attributes:
        returns: `[N]`, of all dreams.
        slots: `[B]`, the dreams that are still in the batch: candidate * rollouts + rollout.
        alive: `[B]`, which of those go on.
    """

    def __init__(self, rows: int, device: torch.device, options: PopulationOptions) -> None:
        self.returns = torch.zeros(rows, dtype=torch.float64, device=device)
        self.slots = torch.arange(rows, device=device)
        self.alive = torch.ones(rows, dtype=torch.bool, device=device)
        self._reached = torch.ones(rows, dtype=torch.float64, device=device)
        self._expected, self._clip = options.expected, options.reward_clip

    def cut(self, rows: Tensor | None) -> None:
        """End the dreams `rows` `[B]` bool before their next step; None ends none."""
        if rows is not None:
            self.alive = self.alive & ~rows

    def count(self, prediction: Prediction) -> None:
        """Add a step's rewards `[B]`, and end the dreams that end with it."""
        slots, reached = self.slots, self._reached
        reward = prediction.reward if self._clip is None else prediction.reward.clamp(*self._clip)
        self.returns[slots] += torch.where(self.alive, reward, 0.0).double() * reached[slots]
        if self._expected:
            reached[slots] *= 1 - prediction.termination_probability.double()
            self.alive = self.alive & (reached[slots] >= LEAST_REACHED)
        else:
            self.alive = self.alive & ~prediction.terminated

    def keep_living(self) -> Tensor:
        """Let ended dreams leave the batch; returns the rows that stay."""
        keep = self.alive.nonzero()[:, 0]
        self.slots, self.alive = self.slots[keep], self.alive[keep]
        return keep


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
