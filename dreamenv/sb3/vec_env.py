"""N dreams as a Stable-Baselines3 `VecEnv`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from dreamenv import registry
from dreamenv.envs import DreamVectorEnv
from dreamenv.errors import ConfigurationError, StepError, missing_extra
from dreamenv.world_model import WorldModel

try:
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error


class DreamVecEnv(VecEnv):
    """N dreams as a Stable-Baselines3 `VecEnv`, one batched computation a step.

    An ended dream begins anew in the same step: its `infos` entry holds `terminal_observation` and
    `TimeLimit.truncated`. Every entry holds `predicted_reward`, `termination_probability` and what else the memory says
    of a step, such as an ensemble's `disagreement`.

    Actions of a Discrete space count from 0 here, as Stable-Baselines3 wants them, whatever the dream's `start`.

    Args:
        dream: A registered dream's id, a bundle's folder, a world model, or a `DreamVectorEnv` in SAME_STEP mode.
        num_envs: N; with a `DreamVectorEnv` it is that environment's.
        kwargs: Keyword arguments of `gym.make_vec` (id) or `DreamVectorEnv`; `autoreset_mode` is not one of them.

    Raises:
        UnknownDreamError: No such id or folder; the nearest ids are named.
        ConfigurationError: A latent twin, a vector environment of another autoreset mode, or a bad keyword argument.
    """

    def __init__(
        self, dream: str | Path | WorldModel | DreamVectorEnv, num_envs: int | None = None, **kwargs: Any
    ) -> None:
        self.env = _vector_env(dream, num_envs, kwargs)
        self._actions: NDArray[Any] | None = None
        actions = self.env.single_action_space
        # Stable-Baselines3 counts the actions of every Discrete space from 0
        self._first_action = int(actions.start) if isinstance(actions, spaces.Discrete) else 0
        if self._first_action:
            actions = spaces.Discrete(int(cast(spaces.Discrete, actions).n))
        super().__init__(self.env.num_envs, self.env.single_observation_space, actions)
        # What is recorded is then as fast as the real one
        self.metadata = {**self.metadata, "render_fps": self.env.metadata["render_fps"]}

    def reset(self) -> VecEnvObs:
        """Begin new dreams in all rows, with the seeds of `seed` if it was called since the last reset."""
        observations, _ = self.env.reset(seed=self._seeds)
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._actions = None
        self._reset_seeds()
        self._reset_options()
        return cast(VecEnvObs, observations)

    def step_async(self, actions: NDArray[Any]) -> None:
        """Keep the actions for `step_wait`; those of a Discrete space count from 0."""
        self._actions = actions + self._first_action if self._first_action else actions

    def step_wait(self) -> VecEnvStepReturn:
        """Dream one action in every row: observations, rewards `[N]` float32, dones `[N]` bool, infos.

        Raises:
            StepError: Without `step_async` before it, or before `reset`.
            InvalidActionError: An action outside the space, of a wrong shape, or not finite.
        """
        if self._actions is None:
            raise StepError("step_wait without step_async; call step(actions)")
        observations, rewards, terminated, truncated, infos = self.env.step(self._actions)
        self._actions = None
        dones = terminated | truncated
        final: dict[str, Any] = infos.get("final_info", {})
        figures = {
            name: _of_all_rows(infos, final, name, dones).tolist()
            for name in ("termination_probability", *self.env.world_model.memory.figures)
        }
        entries: list[dict[str, Any]] = [
            {"predicted_reward": reward, "TimeLimit.truncated": cut}
            | {name: said[row] for name, said in figures.items()}
            for row, (reward, cut) in enumerate(zip(rewards.tolist(), (truncated & ~terminated).tolist(), strict=True))
        ]
        for row in np.flatnonzero(dones).tolist():
            entries[row]["terminal_observation"] = infos["final_obs"][row]
            self.reset_infos[row] = {}
        return observations, rewards.astype(np.float32), dones, entries

    def close(self) -> None:
        """Close the environment and its window."""
        self.env.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A frame of every dream, or None for each without `render_mode="rgb_array"`."""
        if self.env.render_mode != "rgb_array":
            return [None] * self.num_envs
        return list(self.env.render() or ())

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute of the vector environment, once for each index: the dreams of a batch share it."""
        return [getattr(self.env, attr_name)] * self._count(indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector environment.

        Raises:
            ConfigurationError: For some dreams only.
        """
        if self._count(indices) != self.num_envs:
            raise ConfigurationError(f"{attr_name!r} is shared by all {self.num_envs} dreams; set it for all of them")
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment once; its result for each index."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result] * self._count(indices)

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False for each index: there are no single environments that could be wrapped."""
        return [False] * self._count(indices)

    def _count(self, indices: VecEnvIndices) -> int:
        return len(list(self._get_indices(indices)))


def _vector_env(
    dream: str | Path | WorldModel | DreamVectorEnv, num_envs: int | None, kwargs: dict[str, Any]
) -> DreamVectorEnv:
    if "autoreset_mode" in kwargs:
        raise ConfigurationError("autoreset_mode is SAME_STEP here, as Stable-Baselines3 wants it; leave it out")
    if isinstance(dream, DreamVectorEnv):
        if kwargs or num_envs not in (None, dream.num_envs):
            raise ConfigurationError("num_envs and other keyword arguments go to the DreamVectorEnv that is given")
        if dream.autoreset_mode != AutoresetMode.SAME_STEP:
            raise ConfigurationError(
                f"the DreamVectorEnv has autoreset_mode {dream.autoreset_mode.name}, expected SAME_STEP"
            )
        return dream
    if isinstance(dream, VectorEnv):
        raise ConfigurationError(
            f"got {type(dream).__name__}; DreamVecEnv takes a DreamVectorEnv without wrappers, since they do not know "
            "of ends in the same step. A model that pays for disagreement is world_model.with_bonus(1.0); for others "
            "there are the wrappers of stable_baselines3.common.vec_env."
        )
    if isinstance(dream, gym.Env):
        raise ConfigurationError(
            "got a single environment; DreamVecEnv takes a dream's id, a bundle's folder, a WorldModel or a "
            "DreamVectorEnv, or wrap single ones with stable_baselines3's make_vec_env"
        )
    options = {**kwargs, "autoreset_mode": AutoresetMode.SAME_STEP}
    count = 1 if num_envs is None else num_envs
    if isinstance(dream, str) and registry.folder_of(dream) is None:
        entry = registry.find(dream)
        if dream.removeprefix("dreamenv:") != entry.id:
            raise ConfigurationError(
                f"{dream} is a real environment; wrap it with stable_baselines3's make_vec_env. "
                f"Its dream is {entry.id}."
            )
        return cast(DreamVectorEnv, gym.make_vec(entry.id, num_envs=count, **options))
    return DreamVectorEnv(dream, count, **options)


def _of_all_rows(
    infos: dict[str, Any], final: dict[str, Any], key: str, dones: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Values of the step just taken: those of ended rows stand in `final_info`."""
    values = infos.get(key, np.zeros(len(dones)))
    return np.where(dones, final[key], values) if final else values
