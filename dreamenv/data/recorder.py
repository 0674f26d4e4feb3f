"""What happens in a real environment, kept as an episode."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from dreamenv.data.preprocess import PreprocessedEnv
from dreamenv.errors import NonFiniteError
from dreamenv.types import Episode


class EpisodeRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps what a preprocessed environment shows, the actions taken and what comes of them, from `reset` on.

    Attributes:
        observations: Those of the episode so far; the last one is the present.
    """

    def __init__(self, env: PreprocessedEnv) -> None:
        super().__init__(env)
        self.real_spec = env.real_spec
        self.observations: list[NDArray[Any]] = []
        self._seed: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._actions: list[Any] = []
        self._rewards: list[float] = []
        self._terminated = self._truncated = False
        self._real_frames, self._valid = 0, True

    @property
    def length(self) -> int:
        """Actions taken."""
        return len(self._rewards)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        if not np.isfinite(observation).all():
            raise NonFiniteError(f"{self.real_spec.id}: the first observation of seed {seed} is {observation}")
        self._seed = seed
        self.observations = [observation]
        self._begin()
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """
        Raises:
            NonFiniteError: The environment returned a reward or an observation that is not finite.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        # As they are stored: what float32 cannot hold is not finite there
        with np.errstate(over="ignore"):
            finite = bool(np.isfinite(np.float32(reward))) and bool(np.isfinite(observation).all())
        if not finite:
            raise NonFiniteError(
                f"{self.real_spec.id}: reward {reward}, observation {observation} at step {self.length} of seed "
                f"{self._seed}; expected finite numbers that float32 can hold"
            )
        self.observations.append(observation)
        self._actions.append(action)
        self._rewards.append(float(reward))
        self._terminated, self._truncated = terminated, truncated
        self._real_frames += info["real_frames"]
        self._valid = info["observation_valid"]
        return observation, reward, terminated, truncated, info

    def episode(self, policy: str, *, cut: bool = False) -> Episode:
        """The episode since a seeded `reset`, of at least one action.

        Args:
            policy: What chose the actions.
            cut: It was left off here; it counts as truncated.
        """
        assert self._seed is not None
        actions = np.stack(self._actions)
        return Episode(
            observations=np.stack(self.observations),
            # As they are recorded, whatever the type of the space (dm_control's is float64)
            actions=actions.astype(np.float32 if np.issubdtype(actions.dtype, np.floating) else np.int64),
            rewards=np.array(self._rewards, np.float32),
            terminated=self._terminated,
            truncated=self._truncated or cut,
            seed=self._seed,
            policy=policy,
            real_frames=self._real_frames,
            final_observation_valid=self._valid,
        )
