"""The base of wrappers that show each picture of an environment otherwise."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError


class ChangedPicture(gym.ObservationWrapper[Any, Any, Any]):
    """Changes the picture of an observation, which is one or is an entry of a `Dict`.

    What becomes of a picture depends on this picture alone, so pictures that nobody looks at can be left out.

    Args:
        env: An environment with uint8 pictures `[H, W, C]`.
        key: Entry of a `Dict` observation.

    Raises:
        ConfigurationError: There is no such picture.
    """

    def __init__(self, env: gym.Env[Any, Any], key: str | None = None) -> None:
        super().__init__(env)
        self._key = key
        space: Any = env.observation_space
        if key is not None:
            if not isinstance(space, spaces.Dict) or key not in space.spaces:
                raise ConfigurationError(f"key={key!r}: the observations are {space}")
            space = space[key]
        if not isinstance(space, spaces.Box) or len(space.shape) != 3 or space.dtype != np.uint8:
            raise ConfigurationError(f"{type(self).__name__} changes uint8 pictures; the observations are {space}")
        self.shape: tuple[int, ...] = space.shape

    def observation(self, observation: Any) -> Any:
        if self._key is None:
            return self.changed(np.array(observation))
        return observation | {self._key: self.changed(np.array(observation[self._key]))}

    @abstractmethod
    def changed(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture `[H, W, C]` as it is to be seen; it may be written to."""
