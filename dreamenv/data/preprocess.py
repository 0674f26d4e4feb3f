"""Real environments as a world model sees them: cropped, resized, action-repeated."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.data.unseen_frames import UNSEEN_FRAMES
from dreamenv.errors import (
    ConfigurationError,
    MissingExtraError,
    StepError,
    UnknownDreamError,
    did_you_mean,
    missing_extra,
)
from dreamenv.types import RealEnvSpec


def make_real_env(spec: RealEnvSpec, *, render_mode: str | None = None) -> PreprocessedEnv:
    """The real environment of `spec`, preprocessed.

    Raises:
        MissingExtraError: The environment's package is not installed.
        UnknownDreamError: Gymnasium knows no such id.
        ConfigurationError: Its observations or actions are of a kind that a world model cannot take, or Gymnasium
            refuses to make it.
    """
    if spec.module is not None:
        import_registering(spec.module)
    # Constructors that take no render_mode are common, and None is what they mean
    drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    try:
        env = gym.make(spec.id, max_episode_steps=spec.max_episode_steps, **drawn, **spec.kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise missing_extra(f"what {spec.id} needs", "real") from error
    except gym.error.UnregisteredEnv as error:
        near = did_you_mean(spec.id, gym.registry)
        raise UnknownDreamError(f"Gymnasium knows no environment {spec.id!r}. {near}") from error
    except (gym.error.Error, ModuleNotFoundError, TypeError) as error:
        if drawn and "render_mode" in str(error):
            raise ConfigurationError(
                f"{spec.id} cannot be drawn: its constructor takes no render_mode={render_mode!r}. Add it"
            ) from error
        raise ConfigurationError(f"{spec.id} cannot be made with {spec.kwargs}: {error}") from error
    try:
        return PreprocessedEnv(env, spec)
    except BaseException:
        env.close()
        raise


def import_registering(module: str) -> None:
    """Import the module that makes its environments known to Gymnasium.

    Raises:
        MissingExtraError: It is not installed, or something that it needs.
    """
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module}, which registers the environment with Gymnasium, cannot be imported ({error}). What the shipped "
            "dreams need is installed by: pip install 'dreamenv[real]'"
        ) from error


class PreprocessedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose steps are action repeats and whose observations are what V takes.

    Observations are `[image_size, image_size, 3]` uint8 for image environments and `[D]` float32 for vector ones; a
    Discrete observation of n values is a one-hot vector `[n]`.
    A step's reward is the sum over its real frames. `info` gets `real_frames`, how many frames the step consumed, and
    `observation_valid`, False where a meaningless terminal frame was replaced by the one before it.
    """

    def __init__(self, env: gym.Env[Any, Any], spec: RealEnvSpec) -> None:
        super().__init__(env)
        self.real_spec = spec
        source = env.observation_space
        if isinstance(source, spaces.Dict):
            if spec.observation_key is None or spec.observation_key not in source.spaces:
                raise ConfigurationError(
                    f"{spec.id} has Dict observations; observation_key is {spec.observation_key!r}, "
                    f"expected one of {sorted(source.spaces)}"
                )
            source = source[spec.observation_key]
        actions = env.action_space
        if not isinstance(actions, spaces.Discrete) and (
            not isinstance(actions, spaces.Box) or len(actions.shape) != 1
        ):
            raise ConfigurationError(f"{spec.id}: action space {actions}; expected Discrete or a Box of one dimension")
        self._numbered = source if isinstance(source, spaces.Discrete) else None
        if self._numbered is not None:
            source = spaces.Box(0.0, 1.0, (int(self._numbered.n),), np.float32)
        if not isinstance(source, spaces.Box):
            raise ConfigurationError(f"{spec.id}: observations {source} are neither pictures nor vectors")
        self.is_image = len(source.shape) == 3 and source.dtype == np.uint8
        if self.is_image:
            _check_picture(spec, source.shape)
            size = spec.image_size
            self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        elif len(source.shape) == 1:
            self.observation_space = spaces.Box(
                source.low.astype(np.float32), source.high.astype(np.float32), dtype=np.float32
            )
        else:
            raise ConfigurationError(
                f"{spec.id}: observations of shape {source.shape} are neither pictures nor vectors"
            )
        self._last: NDArray[Any] | None = None
        skip = spec.skip_unseen_frames
        self._unseen = None if skip is None else UNSEEN_FRAMES[skip].of(env)

    @property
    def last_observation(self) -> NDArray[Any]:
        """What the last `reset` or `step` returned.

        Raises:
            StepError: There was none.
        """
        if self._last is None:
            raise StepError("there is no observation before reset; call reset first")
        return self._last

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self._last = self._prepare(observation)
        return self._last.copy(), info | {"real_frames": 0, "observation_valid": True}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, spaces.Discrete):
            # ViZDoom takes an array without axes, as agents return it, for a row of buttons and presses all of them
            action = np.asarray(action)[()]
        total, frames = 0.0, 0
        terminated = truncated = False
        observation: Any = None
        info: dict[str, Any] = {}
        while frames < self.real_spec.action_repeat and not (terminated or truncated):
            frames += 1
            unseen = self._unseen if frames < self.real_spec.action_repeat else None
            with nullcontext() if unseen is None else unseen.undrawn():
                observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if unseen is not None and (terminated or truncated):
                observation = unseen.draw()
        # Environments that blank their last frame (ViZDoom) do so at a time-out too, and set both flags there although
        # the task itself did not end.
        if self.real_spec.drop_terminal_observation and terminated and truncated:
            terminated = False
        meaningless = self.real_spec.drop_terminal_observation and (
            terminated or (truncated and not self._raw(observation).any())
        )
        if not meaningless:
            self._last = self._prepare(observation)
        if self._last is None:
            raise StepError("step before reset; call reset first")
        info = dict(info) | {"real_frames": frames, "observation_valid": not meaningless}
        return self._last.copy(), total, bool(terminated), bool(truncated), info

    def _raw(self, observation: Any) -> NDArray[Any]:
        key = self.real_spec.observation_key
        return np.asarray(observation if key is None else observation[key])

    def _prepare(self, observation: Any) -> NDArray[Any]:
        array = self._raw(observation)
        if self._numbered is not None:
            return np.eye(int(self._numbered.n), dtype=np.float32)[int(array) - int(self._numbered.start)]
        if not self.is_image:
            return array.astype(np.float32)
        if self.real_spec.crop is not None:
            top, bottom, left, right = self.real_spec.crop
            array = array[top:bottom, left:right]
        if array.shape[2] == 1:
            array = np.repeat(array, 3, axis=2)
        return resize_area(array, self.real_spec.image_size)


def _check_picture(spec: RealEnvSpec, shape: tuple[int, ...]) -> None:
    height, width, channels = shape
    if channels not in (1, 3):
        raise ConfigurationError(f"{spec.id}: pictures of shape {shape}; expected 1 or 3 channels, in the last place")
    if spec.crop is not None:
        top, bottom, left, right = spec.crop
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ConfigurationError(
                f"{spec.id}: crop {spec.crop} (top, bottom, left, right) does not lie within a frame of "
                f"{height} rows and {width} columns"
            )


def resize_area(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """`[H, W, 3]` uint8 resized to `[size, size, 3]` by area averaging."""
    if picture.shape[:2] == (size, size):
        return np.ascontiguousarray(picture)
    try:
        import cv2
    except ImportError as error:
        raise missing_extra("opencv-python-headless", "real") from error
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), (size, size), interpolation=cv2.INTER_AREA), np.uint8)
