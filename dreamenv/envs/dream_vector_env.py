"""N dreams as one Gymnasium vector environment, one batched computation per step."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from dreamenv.envs.arguments import checked_autoreset_mode, checked_reset_mask, checked_time_limit, row_seeds
from dreamenv.envs.loading import open_world_model
from dreamenv.envs.render import RENDER_MODES, Window, check_render_mode, draw_dreams, window_frame
from dreamenv.envs.rollout import (
    DreamRollout,
    OverRollout,
    by_one_thread,
    check_environment_snapshot,
    generator_of,
)
from dreamenv.errors import ConfigurationError, StepError
from dreamenv.memory.base import Outcome
from dreamenv.types import Start
from dreamenv.world_model import WorldModel


class DreamVectorEnv(OverRollout, VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """N dreams of one world model, with their own time limit.

    With the same seed it equals a `gymnasium.vector.SyncVectorEnv` of N `DreamEnv`: row i depends on its own seed and
    actions only (up to the rounding of a batched matrix product, which is coarser in bfloat16).

    Args:
        world_model, observation, temperature, start, checkpoint, device, termination, max_disagreement: As for
            `DreamEnv`.
        num_envs: N.
        max_episode_steps: Actions until an episode is truncated; None is the model's.
        autoreset_mode: A `gymnasium.vector.AutoresetMode` or its value. NEXT_STEP: the step after an end ignores the
            row's action and returns the new episode's first observation, reward 0 and both flags False. SAME_STEP: the
            step that ends returns it, and `infos` holds `final_obs` and `final_info`. DISABLED: the caller resets ended
            rows with `reset(options={"reset_mask": mask})`.
        precision: Of M's products, "float32", "bfloat16", or "auto": for 256 dreams or more what a short measurement
            finds faster on this machine, else float32; the answer is kept (`dreamenv.memory.precision`). In bfloat16
            states and sampling stay in float32, and dreams follow the same distribution up to the rounding of the
            weights.
        compiled: Make the step by `torch.compile`: faster from some hundred dreams on, above all in bfloat16. The first
            step waits for the compiler (on the CPU some ten seconds, and g++ has to be there). For an MDN-RNN alone;
            other memories refuse it.
        render_mode: None, "rgb_array" (`render` gives a tuple of N frames) or "human" (a window of the first 16).

    Raises:
        ConfigurationError: A keyword argument outside its range, or one that the model cannot serve.
        UnknownDreamError, BundleError: The model cannot be loaded.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 12}

    def __init__(  # noqa: PLR0913  (they are the keyword arguments of `gym.make_vec`)
        self,
        world_model: WorldModel | str | Path,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        observation: str = "features",
        temperature: float | None = None,
        start: Start = "initial",
        checkpoint: str | Path | None = None,
        device: torch.device | str | None = None,
        termination: str | None = None,
        max_disagreement: float | None = None,
        precision: str = "auto",
        compiled: bool = False,
        render_mode: str | None = None,
    ) -> None:
        super().__init__()
        self.render_mode = check_render_mode(render_mode)
        self.autoreset_mode = checked_autoreset_mode(autoreset_mode)
        self.world_model = open_world_model(world_model, checkpoint=checkpoint, device=device, termination=termination)
        self.rollout = DreamRollout(
            self.world_model,
            num_envs,
            observation=observation,
            temperature=temperature,
            start=start,
            precision=precision,
            compiled=compiled,
            max_disagreement=max_disagreement,
        )
        self.num_envs = self.rollout.rows
        self.max_episode_steps = checked_time_limit(max_episode_steps, self.world_model)
        self.metadata = {
            **type(self).metadata,
            "render_fps": self.world_model.real.steps_per_second,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = self.rollout.observation_space
        self.single_action_space = copy.deepcopy(self.world_model.action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._all_rows = np.arange(self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._seeds: list[int | None] = [None] * self.num_envs
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._window: Window | None = None

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Generator of each row; a row that has none yet gets one from fresh entropy."""
        return tuple(self._generator(row) for row in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int | None, ...]:  # type: ignore[override]
        """Seed of each row's generator."""
        _ = self.np_random
        return tuple(self._seeds)

    @by_one_thread
    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin new dreams in all rows, or in those of `options["reset_mask"]` `[N]` bool.

        Args:
            seed: An int (row i gets `seed + i`), or one for each row; a row without seed goes on with its generator.
            options: `reset_mask` is read; the dictionary is not changed.

        Returns:
            Observations of all rows and an empty info.

        Raises:
            ConfigurationError: Seeds of another number than the rows, or a mask of a wrong type or shape.
        """
        seeds = row_seeds(seed, self.num_envs)
        mask = (options or {}).get("reset_mask")
        rows = self._all_rows if mask is None else np.flatnonzero(checked_reset_mask(mask, self.num_envs))
        for row in rows.tolist():
            if seeds[row] is not None:
                self._generators[row], self._seeds[row] = seeding.np_random(seeds[row])
        self._begin(rows)
        self._ended[rows] = False
        if self.render_mode == "human":
            self.render()
        return self.rollout.observations(), {}

    @by_one_thread
    def step(
        self, actions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Dream one action in every row.

        Returns:
            Observations `[N, ...]`, rewards `[N]` float64, terminations and truncations `[N]` bool, and `infos` with
            `predicted_reward`, `termination_probability` and, of an ensemble, `disagreement` `[N]`, each with its mask
            (`_predicted_reward`, ...).

        Raises:
            StepError: Before `reset`, or (DISABLED) with rows that have ended.
            InvalidActionError: An action outside the space, of a wrong shape, or not finite.
            NonFiniteError: A dream became NaN or infinite.
        """
        restarting = self._ended.any()
        if restarting and self.autoreset_mode == AutoresetMode.DISABLED:
            raise StepError(
                f"dreams {np.flatnonzero(self._ended).tolist()} have ended; reset them first: "
                "reset(options={'reset_mask': terminations | truncations})"
            )
        active = ~self._ended if restarting else None
        result = self.rollout.step(actions, active)
        terminated, rewards = result.terminated, result.reward
        truncated = (self.rollout.elapsed >= self.max_episode_steps) | self.rollout.untrusted(result)
        infos: dict[str, Any] = {}
        if active is not None:
            rewards = np.where(active, rewards, 0.0)
            terminated = terminated & active
            truncated &= active
            self._begin(np.flatnonzero(~active))
        ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            rows = np.flatnonzero(ended)
            infos = self._final_infos(rows, ended, result)
            self._begin(rows)
            active, ended = ~ended, np.zeros_like(ended)
        self._ended = ended
        infos |= _step_infos(result, active)
        if self.render_mode == "human":
            self.render()
        return self.rollout.observations(), rewards.copy(), terminated, truncated, infos

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """A tuple of N frames `[384, 384, 3]` uint8 ("rgb_array"), or the first dreams in a window ("human").

        Raises:
            StepError: Before `reset`.
            MissingExtraError: "human" without pygame.
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: make the environment with render_mode='rgb_array'")
            return None
        if self.render_mode == "rgb_array":
            return tuple(draw_dreams(self.rollout))
        if self._window is None:
            self._window = Window("dreams", self.metadata["render_fps"])
        self._window.show(window_frame(self.rollout), self.rollout)
        return None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    @by_one_thread
    def get_state(self) -> dict[str, Any]:
        """A snapshot of all dreams and their random generators, free of shared memory; it can be pickled and copied."""
        return {
            "real_id": self.world_model.real.id,
            "rollout": self.rollout.get_state(),
            "ended": self._ended.copy(),
            "generators": [copy.deepcopy(generator.bit_generator.state) for generator in self.np_random],
            "seeds": list(self._seeds),
        }

    @by_one_thread
    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of `get_state`; all dreams continue bit for bit.

        Raises:
            ConfigurationError: Not a snapshot of this form of environment or this number of dreams, or one of another
                real environment's dreams or of a memory of other sizes.
        """
        check_environment_snapshot(
            state, {"rollout", "ended", "generators", "seeds"}, "DreamVectorEnv", self.world_model
        )
        for name in ("ended", "seeds", "generators"):
            if np.shape(state[name])[:1] != (self.num_envs,):
                raise ConfigurationError(
                    f"the snapshot's {name} are of {np.size(state[name])} dreams, expected {self.num_envs}"
                )
        generators = [generator_of(found) for found in state["generators"]]
        self.rollout.set_state(state["rollout"])
        self._ended = np.array(state["ended"], np.bool_)
        self._seeds, self._generators = list(state["seeds"]), [*generators]

    def clone(self) -> DreamVectorEnv:
        """A second environment that continues as this one does; the world model is shared, no window is."""
        twin = DreamVectorEnv(
            self.world_model,
            self.num_envs,
            max_episode_steps=self.max_episode_steps,
            autoreset_mode=self.autoreset_mode,
            observation=self.rollout.observation,
            temperature=self.rollout.temperature,
            start=self.rollout.start,
            precision=self.rollout.precision,
            compiled=self.rollout.compiled,
            max_disagreement=self.rollout.max_disagreement,
            render_mode=self.render_mode,
        )
        if self.rollout.started:
            twin.set_state(self.get_state())
        else:
            twin._generators, twin._seeds = copy.deepcopy(self._generators), list(self._seeds)
        return twin

    def _generator(self, row: int) -> np.random.Generator:
        generator = self._generators[row]
        if generator is None:
            generator, self._seeds[row] = seeding.np_random()
            self._generators[row] = generator
        return generator

    def _begin(self, rows: NDArray[np.int64]) -> None:
        self.rollout.reset(rows, [self._generator(row) for row in rows.tolist()])

    def _final_infos(self, rows: NDArray[np.int64], ended: NDArray[np.bool_], result: Outcome) -> dict[str, Any]:
        final_obs = np.full(self.num_envs, None, dtype=object)
        for row, observation in zip(rows.tolist(), self.rollout.observations(rows), strict=True):
            final_obs[row] = observation
        return {
            "final_obs": final_obs,
            "_final_obs": ended.copy(),
            "final_info": _step_infos(result, ended),
            "_final_info": ended.copy(),
        }


def _step_infos(result: Outcome, rows: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Infos of the rows of a mask (None: all) as Gymnasium merges them; rows outside hold 0."""
    mask = np.ones(len(result.reward), np.bool_) if rows is None else rows
    if not mask.any():
        return {}
    figures = {
        "predicted_reward": result.reward,
        "termination_probability": result.termination_probability,
        **result.extras,
    }
    infos: dict[str, Any] = {}
    for name, values in figures.items():
        infos[name] = np.where(mask, values, 0.0)
        infos[f"_{name}"] = mask.copy()
    return infos
