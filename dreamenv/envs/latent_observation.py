"""A real environment seen through V and M, with the spaces of the dream."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray

from dreamenv.data.preprocess import PreprocessedEnv, make_real_env, with_wrappers
from dreamenv.envs.actions import ActionChecker
from dreamenv.envs.loading import open_world_model
from dreamenv.envs.render import RENDER_MODES
from dreamenv.errors import SpaceMismatchError, StepError
from dreamenv.memory.base import Prediction
from dreamenv.memory.ordinary import in_ordinary_torch
from dreamenv.noise.hashed import EpisodeNoise
from dreamenv.types import Start
from dreamenv.world_model import WorldModel

_ROW = np.zeros(1, np.int64)


class LatentObservation(gym.Wrapper[NDArray[Any], Any, Any, Any]):
    """Shows a real environment as the dream of `world_model` shows its own: same spaces, so a policy crosses over.

    V encodes each observation to its mean latent and M is fed the action taken and that latent. "pixels" are V's
    reconstruction, as in the dream. A step is one action (the model's action repeat); rewards are the real ones. At an
    end whose frame is meaningless (`drop_terminal_observation`) the last valid observation is returned again.

    `info` of a step is the real environment's with `real_frames` (frames consumed by the step), `observation_valid`
    (False where the last observation is shown again), `predicted_reward` and `termination_probability` (what M said of
    the step before it was seen). That of a reset has the first two.

    Args:
        env: The real environment; it is preprocessed as the model wants it, unless there is a `PreprocessedEnv` in it.
        world_model: The model, a registered id, or a bundle's folder.
        observation: "features", "latent", "pixels" or "state".
        device: As for `DreamEnv`.
        predicts: Whether `info` says what M expected of a step. Without, a `memoryless` M is not asked, which more than
            halves the time of a step.

    Raises:
        SpaceMismatchError: The environment's actions or observations are not those of the model.
        ConfigurationError: An unknown observation kind, or one the model cannot serve.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        world_model: WorldModel | str | Path,
        *,
        observation: str = "features",
        device: torch.device | str | None = None,
        predicts: bool = True,
    ) -> None:
        model = open_world_model(world_model, device=device)
        super().__init__(prepared_like(env, model))
        if self.env.action_space != model.action_space:
            raise SpaceMismatchError(
                f"actions of the environment: {self.env.action_space}; of the world model of {model.real.id}: "
                f"{model.action_space}. Wrap the environment it was trained on."
            )
        if self.env.observation_space.shape != model.vision.observation_shape:
            raise SpaceMismatchError(
                f"observations of the environment, preprocessed: {self.env.observation_space}; of the world model of "
                f"{model.real.id}: shape {model.vision.observation_shape}. Wrap the environment it was trained on."
            )
        self.world_model = model
        self.observation_space = model.observation_space(observation)
        self._observation = observation
        self._asks = predicts or not model.memory.memoryless
        self._actions = ActionChecker(model.action_space)
        self._noise = EpisodeNoise(1, device=model.device)
        self._generator: np.random.Generator | None = None
        self._state: Any = None
        self._embedding = torch.empty(0)

    @in_ordinary_torch
    @torch.no_grad()
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin a real episode; `seed` fixes it and whatever M draws at random."""
        real_observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None or self._generator is None:
            self._generator, _ = seeding.np_random(seed)
        key = np.array([self._generator.integers(2**63)], np.uint64)
        self._noise.begin_episodes(_ROW, key)
        self._embedding = self._encode(real_observation)
        self._state = self.world_model.memory.initial(self._embedding, noise=self._noise)
        return self._seen(), info

    @in_ordinary_torch
    @torch.no_grad()
    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one action in the real environment.

        Raises:
            StepError: Before `reset`.
            InvalidActionError: An action outside the space, of a wrong shape, or not finite.
        """
        if self._state is None:
            raise StepError("step before reset; call reset() first")
        checked = self._actions.check(np.asarray(action)[None], 1)
        real_observation, reward, terminated, truncated, info = self.env.step(action)
        valid = info.get("observation_valid", True)
        if valid:
            self._embedding = self._encode(real_observation)
        self._noise.begin_step()
        state, expected = self._observed(checked)
        self._noise.end_step()
        if valid:
            self._state = state
        return self._seen(), float(reward), bool(terminated), bool(truncated), {**info, **expected}

    def draw_from(self, generator: np.random.Generator) -> None:
        """Have the real environment, and whatever M draws from its next step on, draw anew, as `generator` decides."""
        real, own, key = (int(number) for number in generator.integers(2**63, size=3))
        self.env.unwrapped.np_random = np.random.default_rng(real)
        self._generator = np.random.default_rng(own)
        self._noise.restore(np.array([key], np.uint64), self._noise.steps)

    def _observed(self, action: NDArray[Any]) -> tuple[Any, dict[str, float]]:
        """M's state behind `action`, and what it expected of the step if it is asked."""
        memory = self.world_model.memory
        if not self._asks:
            return memory.initial(self._embedding, noise=self._noise), {}
        taken = torch.from_numpy(action).to(self.world_model.device)
        state, prediction = memory.observe(self._state, taken, self._embedding, noise=self._noise)
        return state, _predicted(prediction)

    def _encode(self, real_observation: NDArray[Any]) -> torch.Tensor:
        return self.world_model.encode(np.asarray(real_observation)[None])

    def _seen(self) -> NDArray[Any]:
        seen = self.world_model.observation(self._state, self._observation)[0]
        return seen.cpu().numpy().astype(self.observation_space.dtype, copy=True)


def prepared_like(env: gym.Env[Any, Any], model: WorldModel) -> gym.Env[Any, Any]:
    """`env` prepared as `model` wants it, with the wrappers of its real environment, unless it is prepared already."""
    prepared = _preprocessed(env)
    if prepared is None:
        env = prepared = PreprocessedEnv(with_wrappers(env, model.real.wrappers), model.real)
    prepared.act_like(model.action_space)
    return env


class LatentEnv(gym.Env[NDArray[Any], Any]):
    """The latent twin of a dream, as `gym.make` builds it: its real environment under `LatentObservation`.

    It takes every keyword argument of the dream, so that a call needs another id and nothing else. Those that concern
    dreaming alone have no effect here; a warning says so.

    Args:
        world_model: The model, a registered id, or a bundle's folder.
        observation, checkpoint, device: As for `DreamEnv`.
        render_mode: Of the real environment.
        temperature, start, termination, precision, compiled, max_disagreement: Of the dream; without effect here.

    Attributes:
        real: The wrapped real environment.

    Raises:
        MissingExtraError: The real environment's package is not installed.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 12}

    def __init__(  # noqa: PLR0913  (they are the keyword arguments of `gym.make`)
        self,
        world_model: WorldModel | str | Path,
        *,
        observation: str = "features",
        checkpoint: str | Path | None = None,
        device: torch.device | str | None = None,
        render_mode: str | None = None,
        temperature: float | None = None,
        start: Start | None = None,
        termination: str | None = None,
        precision: str | None = None,
        compiled: bool | None = None,
        max_disagreement: float | None = None,
    ) -> None:
        dreaming = {
            "temperature": temperature,
            "start": start,
            "termination": termination,
            "precision": precision,
            "compiled": compiled,
            "max_disagreement": max_disagreement,
        }
        given = [name for name, value in dreaming.items() if value is not None]
        if given:
            warnings.warn(
                f"{', '.join(given)}: no effect here. This is the real environment, nothing is dreamed in it.",
                stacklevel=2,
            )
        model = open_world_model(world_model, checkpoint=checkpoint, device=device)
        real = make_real_env(model.real, render_mode=render_mode)
        self.real = LatentObservation(real, model, observation=observation)
        self.world_model = model
        self.render_mode = render_mode
        self.observation_space = self.real.observation_space
        self.action_space = copy.deepcopy(model.action_space)
        self.metadata = {**type(self).metadata, "render_fps": model.real.steps_per_second}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Begin a real episode, fixed by `seed`."""
        super().reset(seed=seed)
        return self.real.reset(seed=seed, options=options)

    @property
    def np_random(self) -> np.random.Generator:
        """As of any environment. Setting it has the real environment, and whatever M draws, draw from it too."""
        return super().np_random

    @np_random.setter
    def np_random(self, value: np.random.Generator) -> None:
        self._np_random, self._np_random_seed = value, -1
        self.real.draw_from(value)

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Take one action in the real environment; see `LatentObservation.step`."""
        return self.real.step(action)

    def render(self) -> Any:
        """The real environment's picture."""
        return self.real.render()

    def close(self) -> None:
        """Close the real environment."""
        self.real.close()


def _preprocessed(env: gym.Env[Any, Any]) -> PreprocessedEnv | None:
    while isinstance(env, gym.Wrapper):
        if isinstance(env, PreprocessedEnv):
            return env
        env = env.env
    return None


def _predicted(prediction: Prediction) -> dict[str, float]:
    return {
        "predicted_reward": float(prediction.reward[0]),
        "termination_probability": float(prediction.termination_probability[0]),
        **{name: float(figures[0]) for name, figures in prediction.extras.items()},
    }
