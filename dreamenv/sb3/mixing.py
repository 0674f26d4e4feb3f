"""Mixing real and dreamed experience in an off-policy algorithm, as MBPO does."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, missing_extra
from dreamenv.sb3.branches import Branches, BranchSchedule, dream_branches
from dreamenv.sb3.mixed_buffer import MixedReplayBuffer
from dreamenv.training.refits import REFITS
from dreamenv.training.transitions import Transitions
from dreamenv.world_model import WorldModel, check_temperature

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error

Refit = Callable[[Transitions], dict[str, float]]


class MixingCallback(BaseCallback):
    """Refits M on the real data as they grow, and refills a `MixedReplayBuffer` with fresh dream branches from real
    states under the current policy (Janner et al. 2019, algorithm 2).

    An algorithm that draws its actions (SAC) does so in the dream; DQN explores with its present rate; to the actions
    of a deterministic policy (TD3) `explore` adds Gaussian noise. With a memory that remembers (`MDNRNN`) branches
    begin in the memory states that belong to the real moments; after a refit, those kept before it are the older
    model's.

    Args:
        model: The world model, of the environment's action space; its latents or features are the observations. A model
            of vector observations is made by `ensemble_world_model`.
        refit: Called with all real transitions to fit M in place; returns scalars for the log. None takes what
            `dreamenv.training.refits.REFITS` has for memories of this kind (`fit_ensemble` for an ensemble), and leaves
            others as they are.
        refit_every: Real steps between fits, the first one at the algorithm's `learning_starts`.
        rollout_every: Real steps between refills; None is `refit_every`.
        rollout_batch: Branches a refill.
        schedule: Branch length by real steps; an int is a constant length.
        explore: Standard deviation of noise on actions in [-1, 1] (Box), or probability of a uniform action (Discrete);
            None is 0, and DQN's own rate.
        temperature: Of the dream; None is the model's.
        fit_options: Of the registered refit; those of an ensemble are the fields of `EnsembleFitOptions`.
        seed: Of the dreams and the fits.

    Raises:
        ConfigurationError: A number out of range, branches longer than the model's horizon (`max_episode_steps`), or
            `fit_options` that nothing takes.
    """

    model: OffPolicyAlgorithm

    def __init__(
        self,
        world_model: WorldModel,
        *,
        refit: Refit | None = None,
        refit_every: int = 250,
        rollout_every: int | None = None,
        rollout_batch: int = 10_000,
        schedule: BranchSchedule | int = 1,
        explore: float | None = None,
        temperature: float | None = None,
        fit_options: dict[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        rollout_every = refit_every if rollout_every is None else rollout_every
        if min(refit_every, rollout_every, rollout_batch) < 1:
            raise ConfigurationError(
                "refit_every, rollout_every and rollout_batch must be at least 1; got "
                f"{refit_every}, {rollout_every}, {rollout_batch}"
            )
        self.schedule = BranchSchedule(schedule, schedule) if isinstance(schedule, int) else schedule
        if not isinstance(self.schedule, BranchSchedule):
            raise ConfigurationError(f"schedule must be a BranchSchedule or an int, got {schedule!r}")
        if seed < 0:
            raise ConfigurationError(f"seed must be at least 0, got {seed}")
        if self.schedule.last > world_model.max_episode_steps:
            raise ConfigurationError(
                f"branches of up to {self.schedule.last} steps; the model's horizon is "
                f"{world_model.max_episode_steps} steps (max_episode_steps). Shorten the schedule."
            )
        largest = 1.0 if isinstance(world_model.action_space, spaces.Discrete) else math.inf
        if explore is not None and not (0 <= explore <= largest and math.isfinite(explore)):
            raise ConfigurationError(
                f"explore must be a finite number of at least 0, and a probability for Discrete actions; got {explore}"
            )
        check_temperature(temperature)
        self.world_model = world_model
        self.refit = refit
        self.refit_every = refit_every
        self.rollout_every = rollout_every
        self.rollout_batch = rollout_batch
        self.explore = explore
        self.temperature = world_model.temperature if temperature is None else temperature
        self.fit_options = dict(fit_options or {})
        self.seed = seed
        if self.fit_options and (refit is not None or self._memory_kind not in REFITS):
            raise ConfigurationError(
                f"fit_options are for a registered refit; there is none in use for memories of kind "
                f"{self._memory_kind!r}. Give refit=, a function of the transitions, with its options in it."
            )
        self._observation = "latent"
        self._noise = torch.Generator(world_model.device).manual_seed(seed)
        self._rng = np.random.default_rng(seed)
        self._next_refit = self._next_rollout = 0

    @property
    def buffer(self) -> MixedReplayBuffer:
        """The algorithm's buffer.

        Raises:
            ConfigurationError: It is none for mixing.
        """
        buffer = getattr(self.model, "replay_buffer", None)
        if not isinstance(buffer, MixedReplayBuffer):
            raise ConfigurationError(
                f"the algorithm's replay buffer is {type(buffer).__name__}, expected MixedReplayBuffer: "
                "SAC(..., replay_buffer_class=MixedReplayBuffer)"
            )
        return buffer

    def rollout(self) -> Branches:
        """Refill the buffer with branches of the present length, and return them.

        Raises:
            ConfigurationError: There are no real moments to branch from yet.
            NonFiniteError: A dream became NaN or infinite.
        """
        self._observation = self.buffer.attach(self.world_model)
        length = self.schedule.length(self.num_timesteps)
        branches = dream_branches(
            self.world_model.memory,
            self.buffer.start_states(self.rollout_batch, self._noise),
            length,
            self._choose,
            observation=self._observation,
            noise=self._noise,
            temperature=self.temperature,
        )
        self.buffer.refill(branches)
        self.logger.record("mixing/branch_length", length)
        self.logger.record("mixing/dream_transitions", self.buffer.dream_size)
        self.logger.record("mixing/dream_reward", float(branches.rewards.mean()))
        self.logger.record("mixing/dream_terminations", float(branches.terminated.mean()))
        return branches

    def fit(self) -> None:
        """Fit M on all real transitions.

        Raises:
            ConfigurationError: Too few of them.
        """
        memory, kind = self.world_model.memory, self._memory_kind
        if self.refit is not None:
            scalars = self.refit(self.buffer.real_transitions())
        elif kind in REFITS:
            scalars = REFITS[kind](memory, self.buffer.real_transitions(), self.fit_options, seed=self.seed)
        else:
            return
        for name, value in scalars.items():
            self.logger.record(f"mixing/{name}", value)

    @property
    def _memory_kind(self) -> str:
        return str(self.world_model.memory.config()["kind"])

    def _init_callback(self) -> None:
        self._observation = self.buffer.attach(self.world_model)
        starts = max(self.model.learning_starts, 1)
        self._next_refit = self._next_rollout = max(starts, self.num_timesteps)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        steps = self.num_timesteps
        if steps >= self._next_refit:
            self._next_refit = steps + self.refit_every
            self.fit()
        if steps >= self._next_rollout:
            self._next_rollout = steps + self.rollout_every
            self.rollout()

    def _choose(self, seen: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The policy's actions at dreamed observations `[B, D]`: as M takes them, and as the buffer stores them."""
        normaliser = self.model.get_vec_normalize_env()
        shown = seen if normaliser is None else normaliser.normalize_obs(seen)
        space = self.model.action_space
        if isinstance(space, spaces.Discrete):
            rate = self.explore if self.explore is not None else getattr(self.model, "exploration_rate", 0.0)
            greedy, _ = self.model.policy.predict(shown, deterministic=True)
            uniform = self._rng.integers(space.n, size=len(seen)) + space.start
            actions = np.where(self._rng.random(len(seen)) < rate, uniform, greedy).astype(np.int64)
            return actions, actions.reshape(-1, 1)
        actions, _ = self.model.policy.predict(shown, deterministic=False)
        stored = self.model.policy.scale_action(actions)
        if self.explore:
            noise = self.explore * self._rng.standard_normal(stored.shape)
            stored = np.clip(stored + noise, -1, 1).astype(np.float32)
            actions = self.model.policy.unscale_action(stored)
        return actions.astype(np.float32), stored.astype(np.float32)
