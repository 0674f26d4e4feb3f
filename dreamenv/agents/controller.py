"""The linear controller C of "World Models" (Ha and Schmidhuber 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dreamenv.agents.action_map import ActionMap
from dreamenv.agents.base import as_batch
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError


class LinearController:
    """a = W [z, h] + b (Ha and Schmidhuber 2018, equation 1), mapped into the action space.

    The paper adds c, the LSTM's cell, to the inputs for Doom; here that is a property of the memory model's features.
    The paper squashes with tanh, sigmoid and clipping by dimension; here `action_map` says how (see `ActionMap`).

    Attributes:
        weights: `[outputs, F + 1]` float32; the last column is b.
        action_map: The map from outputs to actions.
        observation: Observation kind it reads, "features" or "latent".
        provenance: JSON-ready record of how the controller came about; `real_frames` counts those its own training
            and selection consumed, the model's not included.
    """

    kind: ClassVar[str] = "linear"

    def __init__(
        self,
        weights: ArrayLike,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        *,
        observation: str = "features",
        action_map: str | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        """
        Raises:
            ConfigurationError: An observation kind or action map that does not fit.
            SpaceMismatchError: Weights whose shape does not fit the spaces.
            NonFiniteError: Weights that are not finite.
        """
        if observation not in ("features", "latent"):
            raise ConfigurationError(f"a linear controller reads 'features' or 'latent', got {observation!r}")
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise ConfigurationError(f"a linear controller reads a one-dimensional Box, got {observation_space}")
        self.observation = observation
        self.observation_space = observation_space
        self.action_space = action_space
        self.action_map = ActionMap(action_space, action_map)
        self.provenance = dict(provenance or {})
        self.weights: NDArray[np.float32] = np.array(weights, dtype=np.float32)
        wanted = (self.action_map.outputs, observation_space.shape[0] + 1)
        if self.weights.shape != wanted:
            raise SpaceMismatchError(
                f"got weights of shape {self.weights.shape}; {wanted} fit {wanted[1] - 1} inputs, a bias and "
                f"{wanted[0]} outputs of action map {self.action_map.kind!r}"
            )
        if not np.isfinite(self.weights).all():
            raise NonFiniteError("the controller's weights are not all finite")
        self._weights = torch.from_numpy(self.weights)

    @property
    def parameter_count(self) -> int:
        """How many parameters the controller has, biases included."""
        return int(self.weights.size)

    def predict(
        self,
        observation: NDArray[Any],
        state: Any = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], Any]:
        """Actions of observations `[F]` or `[B, F]`; it has no state and no chance, so nothing else matters.

        Raises:
            SpaceMismatchError: An observation of another shape.
            NonFiniteError: An observation that is not finite.
        """
        batch, single = as_batch(observation, self.observation_space)
        inputs = torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32))
        with torch.inference_mode():
            outputs = torch.addmm(self._weights[:, -1], inputs, self._weights[:, :-1].T)
            if not bool(torch.isfinite(outputs).all()):
                raise NonFiniteError("the observation given to the controller is not finite")
            action = self.action_map.to_numpy(self.action_map(outputs))
        return (np.asarray(action[0]) if single else action), state

    def tensors(self) -> dict[str, Tensor]:
        """`weights` alone."""
        return {"weights": self._weights}

    def config(self) -> dict[str, Any]:
        """The action map."""
        return {"action_map": self.action_map.kind}

    @classmethod
    def from_tensors(
        cls,
        tensors: dict[str, Tensor],
        *,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        observation: str,
        provenance: dict[str, Any],
        **config: Any,
    ) -> LinearController:
        """The inverse of `tensors` and `config`."""
        weights = tensors["weights"].float().numpy()
        return cls(weights, observation_space, action_space, observation=observation, provenance=provenance, **config)
