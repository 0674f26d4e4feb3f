"""Real environments as a world model sees them: wrapped, prepared, action-repeated."""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import pickle
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from dreamenv.data.actions import ActionMapping
from dreamenv.data.observations import NUMBERS, preparation_of
from dreamenv.data.scratch import InScratchFolder, scratch_folder
from dreamenv.data.unseen_frames import UNSEEN_FRAMES
from dreamenv.errors import (
    CollectionError,
    ConfigurationError,
    DreamEnvError,
    MissingExtraError,
    StepError,
    UnknownDreamError,
    did_you_mean,
    missing_extra,
)
from dreamenv.types import RealEnvSpec, Wrapper

# Real frames after which an environment that has no time limit is taken to have no end either
MOST_FRAMES = 100_000


def make_real_env(spec: RealEnvSpec, *, render_mode: str | None = None) -> PreprocessedEnv:
    """The real environment of `spec`, preprocessed.

    Raises:
        MissingExtraError, UnknownDreamError: As `make_raw_env`.
        ConfigurationError: As `make_raw_env`, or its observations or actions are of a kind that a world model cannot
            take.
    """
    env = make_raw_env(spec, render_mode=render_mode)
    try:
        return PreprocessedEnv(env, spec)
    except BaseException:
        env.close()
        raise


def make_raw_env(spec: RealEnvSpec, *, render_mode: str | None = None) -> gym.Env[Any, Any]:
    """The real environment of `spec` with its wrappers, as it is.

    Raises:
        MissingExtraError: The environment's package is not installed.
        UnknownDreamError: Gymnasium knows no such id.
        ConfigurationError: Gymnasium refuses to make it, or a wrapper cannot be put around it.
    """
    if spec.module is not None:
        import_registering(spec.module)
    # Constructors that take no render_mode are common, and None is what they mean
    drawn: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    try:
        with scratch_folder() if spec.scratch_folder else nullcontext() as folder:
            env = gym.make(spec.id, max_episode_steps=spec.max_episode_steps, **drawn, **spec.kwargs)
    except gym.error.DependencyNotInstalled as error:
        raise missing_extra(f"what {spec.id} needs", _extra_of(spec.id)) from error
    except gym.error.UnregisteredEnv as error:
        if spec.id.startswith("dm_control/") and importlib.util.find_spec("shimmy") is None:
            raise missing_extra("Shimmy, which makes dm_control's tasks known to Gymnasium,", "dm-control") from error
        # As it is to be written, and dreams are no real environments
        module, colon, wanted = spec.id.rpartition(":")
        prefix = module + colon or ("" if spec.module is None else f"{spec.module}:")
        known = [name for name, made in gym.registry.items() if not str(made.entry_point).startswith("dreamenv.")]
        near = did_you_mean(prefix + wanted, [prefix + name for name in known])
        raise UnknownDreamError(f"Gymnasium knows no environment {spec.id!r}. {near}") from error
    except DreamEnvError:
        raise
    except Exception as error:  # whatever a foreign module or constructor raises
        if drawn and "render_mode" in str(error):
            raise ConfigurationError(
                f"{spec.id} cannot be drawn: its constructor takes no render_mode={render_mode!r}. Add it"
            ) from error
        raise ConfigurationError(
            f"{spec.id} cannot be made with {spec.kwargs}: {type(error).__name__}: {error}"
        ) from error
    missing = _beyond_registered(env, spec.wrappers)
    env = env if folder is None else InScratchFolder(env, folder)
    try:
        for wrapper in missing:
            env = _put_around(env, wrapper)
        return env
    except BaseException:
        env.close()
        raise


def registration_of(spec: RealEnvSpec) -> EnvSpec | None:
    """What another process needs to know the environment of `spec`: None where its id or module says it.

    Raises:
        ConfigurationError: It is registered by something that only this process has, such as a lambda.
    """
    known = gym.registry.get(spec.id)
    if known is None or spec.module is not None or ":" in spec.id:
        return None
    try:
        pickle.dumps(known)
    except Exception as error:  # whatever a foreign object raises
        raise ConfigurationError(
            f"{spec.id} is registered by {known.entry_point!r}, which no other process can import: use workers=0 "
            "(--workers 0), or register it by entry_point='module:Class'"
        ) from error
    return known


def modules_of(spec: RealEnvSpec) -> list[str]:
    """Modules that another process imports by name when it makes the environment of `spec`."""
    known = gym.registry.get(spec.id)
    entry_point = known.entry_point if known is not None else None
    named = [spec.module, spec.id.partition(":")[0] if ":" in spec.id else None]
    if isinstance(entry_point, str):
        named.append(entry_point.partition(":")[0])
    return [module for module in named if module is not None]


def make_known(registration: EnvSpec | None) -> None:
    """Register in this process what `registration_of` has given in another one."""
    if registration is not None:
        gym.registry.setdefault(registration.id, registration)


def with_wrappers(env: gym.Env[Any, Any], wrappers: tuple[Wrapper, ...]) -> gym.Env[Any, Any]:
    """`env` with those of `wrappers` around it that it does not wear already.

    Raises:
        ConfigurationError: A wrapper cannot be imported, or does not take the environment or its keyword arguments.
    """
    for wrapper in wrappers:
        if not _wears(env, _imported(wrapper.path)):
            env = _put_around(env, wrapper)
    return env


def _put_around(env: gym.Env[Any, Any], wrapper: Wrapper) -> gym.Env[Any, Any]:
    kind = _imported(wrapper.path)
    try:
        found: gym.Env[Any, Any] = kind(env, **wrapper.kwargs)
    except Exception as error:  # whatever a foreign constructor raises
        raise ConfigurationError(
            f"wrapper {wrapper.path} with {wrapper.kwargs} cannot be put around {env}: {type(error).__name__}: {error}"
        ) from error
    return found


def _beyond_registered(env: gym.Env[Any, Any], wrappers: tuple[Wrapper, ...]) -> tuple[Wrapper, ...]:
    """Without those that `gym.make` has put around `env` itself, since the id is registered with them: the spec of such
    an environment, which Minari keeps, begins with them."""
    registered = env.spec.additional_wrappers if env.spec is not None else ()
    asked = [(_place(_imported(wrapper.path)), _written(wrapper.kwargs)) for wrapper in wrappers[: len(registered)]]
    same = asked == [(worn.entry_point, _written(worn.kwargs)) for worn in registered]
    return wrappers[len(registered) :] if same else wrappers


def _place(kind: Callable[..., Any]) -> str:
    """Where Gymnasium says that a class comes from."""
    return f"{kind.__module__}:{getattr(kind, '__name__', '')}"


def _written(kwargs: Mapping[str, Any] | None) -> str:
    return json.dumps(kwargs, sort_keys=True, default=str)


def _wears(env: gym.Env[Any, Any], kind: Callable[..., Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if type(env) is kind:
            return True
        env = env.env
    return False


def _imported(path: str) -> Callable[..., Any]:
    module, separator, name = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        if not separator:
            raise ImportError("no module is named")
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"wrapper {path!r} cannot be imported ({error}); expected package.module:Name, such as "
            "gymnasium.wrappers:RescaleAction"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"wrapper {path!r} is {found!r}; expected a class or function of an environment")
    kind: Callable[..., Any] = found
    return kind


def _extra_of(env_id: str) -> str:
    """The extra that brings what a registered environment needs, as far as it is one of Gymnasium's own."""
    place = gym.spec(env_id).entry_point
    return "mujoco" if isinstance(place, str) and place.startswith("gymnasium.envs.mujoco") else "real"


# Extras of this package that bring modules which register environments
_EXTRA_WITH = {"vizdoom": "real", "shimmy": "dm-control"}


def import_registering(module: str) -> None:
    """Import the module that makes its environments known to Gymnasium; of `module:function` the function does.

    Raises:
        MissingExtraError: It is not installed, or something that it needs.
    """
    place, _, function = module.partition(":")
    try:
        found = importlib.import_module(place)
        if function:
            getattr(found, function)()
    except Exception as error:  # whatever a foreign module raises
        top = place.partition(".")[0]
        known = _EXTRA_WITH.get(top, "")
        if known:
            fix = f" Fix it with: pip install 'dreamenv[{known}]'"
        elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == top:
            fix = f" Install the package that has it, such as by: pip install {top}"
        else:
            fix = ""
        raise MissingExtraError(
            f"{module}, which registers the environment with Gymnasium, cannot be imported ({error}).{fix}"
        ) from error


def at_own_speed(real: RealEnvSpec, env: gym.Env[Any, Any]) -> RealEnvSpec:
    """`real` with the frames a second that its environment declares, where it names none itself."""
    declared = env.metadata.get("render_fps")
    if real.frames_per_second is not None or not isinstance(declared, (int, float)) or not 0 < declared < math.inf:
        return real
    return replace(real, frames_per_second=float(declared))


class PreprocessedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """An environment whose steps are action repeats and whose observations and actions are what V and M take.

    Observations are `[image_size, image_size, 3]` uint8 pictures or `[D]` float32 vectors (see `data.observations`),
    actions are Discrete from 0 or a Box of one dimension with finite bounds (see `data.actions`).
    A step's reward is the sum over its real frames. `info` gets `real_frames`, how many frames the step consumed, and
    `observation_valid`, False where a meaningless terminal frame was replaced by the one before it.

    Attributes:
        actions: From its actions to those of the real environment, and back.
        is_image: Whether observations are pictures.
        preparation: What is made of observations and actions, in words.

    Raises:
        ConfigurationError: Observations or actions of which neither can be made; the wrapper that helps is named.
    """

    def __init__(self, env: gym.Env[Any, Any], spec: RealEnvSpec) -> None:
        super().__init__(env)
        self.real_spec = spec
        self.actions = ActionMapping(env.action_space, spec)
        self._observations = preparation_of(env.observation_space, spec)
        self.is_image = self._observations.is_image
        self.preparation = (*self._observations.steps, *self.actions.steps)
        self.observation_space, self.action_space = self._observations.space, self.actions.space
        self._last: NDArray[Any] | None = None
        limit = spec.max_episode_steps or (env.spec.max_episode_steps if env.spec is not None else None)
        self._most_frames, self._frames = MOST_FRAMES if limit is None else None, 0
        skip = spec.skip_unseen_frames
        self._unseen = None if skip is None else UNSEEN_FRAMES[skip].of(env)

    def act_like(self, action_space: gym.Space[Any]) -> None:
        """Take actions of `action_space` as they are, where the real environment's own space is just that: a model that
        was fitted to it without this preparation acts in it."""
        if self.action_space != action_space == self.env.action_space:
            self.actions = ActionMapping(action_space, self.real_spec, as_it_is=True)
            self.action_space = action_space

    def allow_frames(self, most: int) -> None:
        """Let an episode last for `most` real frames where neither the environment nor its spec has a time limit."""
        if self._most_frames is not None:
            self._most_frames = most

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
        self._last, self._frames = self._prepare(observation), 0
        return self._last.copy(), info | {"real_frames": 0, "observation_valid": True}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        if not self.actions.as_it_is:
            action = self.actions.to_real(action)
        elif isinstance(self.action_space, spaces.Discrete):
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
            total += self._number(reward)
            if unseen is not None and (terminated or truncated):
                observation = unseen.draw()
        # Environments that blank their last frame (ViZDoom) do so at a time-out too, and set both flags there although
        # the task itself did not end.
        if self.real_spec.drop_terminal_observation and terminated and truncated:
            terminated = False
        drops = self.real_spec.drop_terminal_observation
        prepared = None if drops and terminated else self._prepare(observation)
        meaningless = prepared is None or (drops and truncated and not prepared.any())
        if not meaningless:
            self._last = prepared
        if self._last is None:
            raise StepError("step before reset; call reset first")
        self._frames += frames
        if self._most_frames is not None and self._frames >= self._most_frames and not (terminated or truncated):
            raise CollectionError(
                f"{self.real_spec.id}: an episode has not ended after {self._frames:,} real frames, and nothing limits "
                "it. Give it a time limit: --max-episode-steps N, or max_episode_steps of its RealEnvSpec or preset"
            )
        info = dict(info) | {"real_frames": frames, "observation_valid": not meaningless}
        return self._last.copy(), total, bool(terminated), bool(truncated), info

    def _prepare(self, observation: Any) -> NDArray[Any]:
        """What V takes of an observation."""
        if self._observations.plain:
            vector = np.asarray(observation)
            if vector.shape == self.observation_space.shape and vector.dtype.kind in NUMBERS:
                return vector.astype(np.float32)
        return self._observations.prepare(observation)

    def _number(self, reward: Any) -> float:
        """A reward as a number."""
        try:
            return float(np.asarray(reward, np.float64).reshape(()))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{self.real_spec.id}: the reward of a step is {reward!r}, expected one number. Correct what step "
                "returns, or add the parts up in a gymnasium.RewardWrapper"
            ) from error
