"""Small dreams to sit down in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.play.opening import Opening
from dreamenv.types import Control, RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.fakes import CountingMemory, FakeState, fake_world_model, trained_like_world_model
from tests.play.walking_env import ID

CHOICE = spaces.Discrete(3)
STEERED = {"LEFT": Control("left", 2), "RIGHT": Control("right", 1)}


class DressedState(NamedTuple):
    """A `FakeState` whose latent has another name."""

    inner: Tensor
    age: Tensor
    drawn: Tensor


class DressedMemory(MemoryModel[DressedState]):
    """A memory whose states have no field `latent`, and whose latents cannot be changed by themselves."""

    latent_std: Tensor

    def __init__(self, inner: CountingMemory) -> None:
        super().__init__()
        self.inner = inner
        self.embedding_size = self.latent_size = inner.latent_size
        self.feature_size = inner.feature_size
        self.register_buffer("latent_std", torch.ones(inner.latent_size))

    @property
    def state_type(self) -> type[DressedState]:
        return DressedState

    def initial(self, embedding: Tensor, *, noise: Any) -> DressedState:
        return DressedState(*self.inner.initial(embedding, noise=noise))

    def observe(self, state: Any, action: Tensor, embedding: Tensor, *, noise: Any) -> tuple[DressedState, Prediction]:
        after, said = self.inner.observe(FakeState(*state), action, embedding, noise=noise)
        return DressedState(*after), said

    def imagine(
        self, state: Any, action: Tensor, *, noise: Any, temperature: float = 1.0
    ) -> tuple[DressedState, Prediction]:
        after, said = self.inner.imagine(FakeState(*state), action, noise=noise, temperature=temperature)
        return DressedState(*after), said

    def features(self, state: DressedState) -> Tensor:
        return torch.cat(tuple(state), dim=1)

    def latent(self, state: DressedState) -> Tensor:
        return state.inner

    def config(self) -> dict[str, Any]:
        return {"kind": "dressed"}


class CountingAgent:
    """Takes action 2; its state counts the calls since the episode began."""

    observation = "latent"

    def __init__(self, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def predict(
        self, observation: NDArray[Any], state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], Any]:
        calls = np.zeros(len(observation)) if state is None else state
        calls = np.where(episode_start, 0, calls) + 1
        return np.full(len(observation), 2), calls


def open_model(
    model: WorldModel, *, make_agent: Callable[[int], Any] | None = None, max_episode_steps: int = 50, rate: int = 10
) -> Opening:
    """A model to sit down in, with the counting agent unless another one is made."""

    def counting(_: int) -> Any:
        return CountingAgent(model.observation_space("latent"), model.action_space)

    return Opening(
        id="DreamSmall-v0",
        model=model,
        agent_name="shipped",
        temperature=1.0,
        start="initial",
        max_episode_steps=max_episode_steps,
        steps_per_second=rate,
        make_agent=counting if make_agent is None else make_agent,
    )


def known_opening(memory: MemoryModel[Any] | None = None, **options: Any) -> Opening:
    """A dream that is known beforehand: every latent grows by the action."""
    model = fake_world_model(memory, action_space=CHOICE, image=True)
    model.real = dataclasses.replace(model.real, controls=STEERED)
    return open_model(model, **options)


def small_opening(*, real: dict[str, Any] | None = None, **options: Any) -> Opening:
    """A small MDN-RNN with pictures, whose real environment is the walking one made with `real`."""
    spec = RealEnvSpec(ID, kwargs=real or {}, action_repeat=2, controls=STEERED)
    return open_model(trained_like_world_model(action_space=CHOICE, real=spec), **options)
