"""Differentiable dreams whose best behaviour is known."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.bundle import StartStates
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.noise.base import Noise
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

MOVE = spaces.Box(-0.5, 0.5, (1,), np.float32)
CHOICE = spaces.Discrete(3, start=2)
TARGET = 0.3
COST = 3.0


class PlaceState(NamedTuple):
    """Where one is, `[B, 1]`."""

    place: Tensor


class _Place(MemoryModel[PlaceState]):
    embedding_size = latent_size = feature_size = 1
    latent_std: Tensor

    def __init__(self, action_space: gym.Space[Any] | None = None, *, ends: float = 0.0) -> None:
        super().__init__()
        self.ends = ends
        self.register_buffer("latent_std", torch.ones(self.latent_size))

    @property
    def state_type(self) -> type[PlaceState]:
        return PlaceState

    def initial(self, latent: Tensor, *, noise: torch.Generator | Noise) -> PlaceState:
        return PlaceState(latent)

    def observe(
        self, state: PlaceState, action: Tensor, latent: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[PlaceState, Prediction]:
        return PlaceState(latent), self.imagine(state, action, noise=noise)[1]

    def features(self, state: PlaceState) -> Tensor:
        return state.place

    def latent(self, state: PlaceState) -> Tensor:
        return state.place

    def config(self) -> dict[str, Any]:
        return {"kind": "place"}

    def _step(self, place: Tensor, reward: Tensor) -> tuple[PlaceState, Prediction]:
        ends = torch.full_like(reward, self.ends)
        return PlaceState(place), Prediction(reward, ends, ends > 0.5)


class TargetMemory(_Place):
    """x' = x + a and the reward is -(x' - TARGET)²: the best action is TARGET - x, as far as the bounds let it."""

    def imagine(
        self, state: PlaceState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PlaceState, Prediction]:
        place = state.place + action
        return self._step(place, -(place - TARGET).square().squeeze(1))


class StairsMemory(_Place):
    """Actions go down, stay, or go up one stair; the reward is the height, less COST for going up.

    A stair is worth 1 / (1 - γ) in the long run: going up is best where that is above COST, staying where it is below.
    """

    def imagine(
        self, state: PlaceState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PlaceState, Prediction]:
        one_hot = action if action.is_floating_point() else nn.functional.one_hot(action - int(CHOICE.start), 3).float()
        place = state.place + one_hot[:, 2:] - one_hot[:, :1]
        return self._step(place, place.squeeze(1) - COST * one_hot[:, 2])


def small_dream(memory: MemoryModel[Any], action_space: gym.Space[Any]) -> WorldModel:
    """A world model of `memory` that starts at 41 places from -1 to 1."""
    return WorldModel(
        IdentityVision(1),
        memory,
        RealEnvSpec("Pendulum-v1"),
        action_space,
        StartStates(torch.linspace(-1, 1, 41).unsqueeze(1)),
        max_episode_steps=10,
    )
