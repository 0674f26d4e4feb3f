"""A dream as a Gymnasium environment: the batch of one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.envs.loading import open_world_model
from dreamenv.envs.render import RENDER_MODES, Window, check_render_mode, draw_dreams
from dreamenv.envs.rollout import (
    DreamRollout,
    OverRollout,
    by_one_thread,
    check_environment_snapshot,
    generator_of,
)
from dreamenv.errors import InvalidActionError, StepError
from dreamenv.types import Start
from dreamenv.world_model import WorldModel

_ROW = np.zeros(1, np.int64)


class DreamEnv(OverRollout, gym.Env[NDArray[Any], Any]):
    """One dream of a world model.

    `gym.make` adds the time limit. A step's `info` holds `predicted_reward` (the reward), `termination_probability`,
    and where the memory is an ensemble its `disagreement`.

    Args:
        world_model: The model, a registered id, or a bundle's folder.
        observation: "features" `[F]` float32 (latent and hidden state), "latent" `[Z]` float32, "pixels"
            `[64, 64, 3]` uint8 (the decoded latent), or "state" `[S]` float32 (all that M remembers, for planners).
        temperature: Spread of what M draws, at least 0; None is the model's default. 0 dreams the mode. Above 1 the
            dream is harder.
        start: Where dreams begin. "first": at the first observations of real episodes. "initial": at their first
            moments behind the start margin (without a margin, the same). "replay": at any of their moments, with what
            M remembered there.
        checkpoint: Folder of another bundle to dream with.
        device: "cpu", "cuda", ...; None is where a given model lies, and the CPU for one that is loaded.
        termination: "cut" (where the weighted head says more likely than not: at a calibrated probability of
            1 / (1 + termination_weight)) or "sample" instead of the memory model's own.
        max_disagreement: Truncate a dream where the members of its ensemble disagree by more, in standard deviations
            of a step's change, so that nobody learns from what the model does not know; None never does.
        render_mode: None, "rgb_array" or "human".

    Raises:
        ConfigurationError: A keyword argument outside its range, or one that the model cannot serve.
        UnknownDreamError, BundleError: The model cannot be loaded.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 12}

    def __init__(
        self,
        world_model: WorldModel | str | Path,
        *,
        observation: str = "features",
        temperature: float | None = None,
        start: Start = "initial",
        checkpoint: str | Path | None = None,
        device: torch.device | str | None = None,
        termination: str | None = None,
        max_disagreement: float | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = check_render_mode(render_mode)
        self.world_model = open_world_model(world_model, checkpoint=checkpoint, device=device, termination=termination)
        self.rollout = DreamRollout(
            self.world_model,
            1,
            observation=observation,
            temperature=temperature,
            start=start,
            max_disagreement=max_disagreement,
        )
        self.observation_space = self.rollout.observation_space
        self.action_space = copy.deepcopy(self.world_model.action_space)
        self.metadata = {**type(self).metadata, "render_fps": self.world_model.real.steps_per_second}
        self._ended = False
        self._window: Window | None = None

    @by_one_thread
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin a dream. `seed` fixes it whole: start state and every random number of it and of those that follow.

        `options` are not used.
        """
        super().reset(seed=seed)
        self.rollout.reset(_ROW, [self.np_random])
        self._ended = False
        if self.render_mode == "human":
            self.render()
        return self.rollout.observations()[0], {}

    @by_one_thread
    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Dream one action.

        Raises:
            StepError: Before `reset`, or after the dream terminated.
            InvalidActionError: An action outside the space, of a wrong shape, or not finite.
            NonFiniteError: The dream became NaN or infinite.
        """
        if self._ended:
            raise StepError("the dream has terminated; call reset() before the next step")
        try:
            batch = np.asarray(action)[None]
        except (ValueError, TypeError) as error:
            raise InvalidActionError(f"got {action!r}, expected one of {self.action_space}") from error
        result = self.rollout.step(batch)
        self._ended = bool(result.terminated[0])
        if self.render_mode == "human":
            self.render()
        reward = float(result.reward[0])
        info = {
            "predicted_reward": reward,
            "termination_probability": float(result.termination_probability[0]),
        }
        for name, figures in result.extras.items():
            info[name] = float(figures[0])
        truncated = bool(self.rollout.untrusted(result)[0])
        return self.rollout.observations()[0], reward, self._ended, truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """The dream as a picture `[384, 384, 3]` uint8 ("rgb_array"), or shown in a window ("human").

        Raises:
            StepError: Before `reset`.
            MissingExtraError: "human" without pygame.
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: make the environment with render_mode='rgb_array'")
            return None
        frame = draw_dreams(self.rollout)[0]
        if self.render_mode == "rgb_array":
            return frame
        if self._window is None:
            self._window = Window("dream", self.metadata["render_fps"])
        self._window.show(frame, self.rollout)
        return None

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._window is not None:
            self._window.close()
            self._window = None

    @by_one_thread
    def get_state(self) -> dict[str, Any]:
        """A snapshot of the dream and its random generator, free of shared memory; it can be pickled and copied.

        The step count of a `TimeLimit` around this environment is the wrapper's and not part of it.
        """
        return {
            "real_id": self.world_model.real.id,
            "rollout": self.rollout.get_state(),
            "ended": self._ended,
            "generator": copy.deepcopy(self.np_random.bit_generator.state),
            "seed": self._np_random_seed,
        }

    @by_one_thread
    def set_state(self, state: dict[str, Any]) -> None:
        """Go back to a snapshot of `get_state`; the dream and those after it continue bit for bit.

        Raises:
            ConfigurationError: Not a snapshot of this form of environment, or one of another real environment's dream
                or of a memory of other sizes.
        """
        check_environment_snapshot(state, {"rollout", "ended", "generator", "seed"}, "DreamEnv", self.world_model)
        generator = generator_of(state["generator"])
        self.rollout.set_state(state["rollout"])
        self._ended = state["ended"]
        self._np_random, self._np_random_seed = generator, state["seed"]

    def clone(self) -> DreamEnv:
        """A second dream that continues as this one does; the world model is shared, no window is."""
        twin = DreamEnv(
            self.world_model,
            observation=self.rollout.observation,
            temperature=self.rollout.temperature,
            start=self.rollout.start,
            max_disagreement=self.rollout.max_disagreement,
            render_mode=self.render_mode,
        )
        if self.rollout.started:
            twin.set_state(self.get_state())
        else:
            twin._np_random, twin._np_random_seed = copy.deepcopy(self._np_random), self._np_random_seed
        return twin
