"""World models whose dreams are known beforehand, for tests of what environments and agents make of a dream."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.bundle import StartStates
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.noise.base import Noise, as_noise
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.vision.vae import ConvVAE
from dreamenv.world_model import WorldModel

DISCRETE = spaces.Discrete(4, start=1)
BOX = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 2.0], np.float32))
LATENT_SIZE = 3


class FakeState(NamedTuple):
    """A latent `[B, Z]`, steps since the start `[B, 1]`, and a number drawn at the start `[B, 1]`."""

    latent: Tensor
    age: Tensor
    drawn: Tensor


class _FakeMemory(MemoryModel[FakeState]):
    latent_std: Tensor

    def __init__(self, latent_size: int = LATENT_SIZE, action_space: gym.Space[Any] | None = None) -> None:
        super().__init__()  # any actions will do
        self.embedding_size = self.latent_size = latent_size
        self.feature_size = latent_size + 2
        self.register_buffer("latent_std", torch.ones(latent_size))

    @property
    def state_type(self) -> type[FakeState]:
        return FakeState

    def features(self, state: FakeState) -> Tensor:
        return torch.cat(tuple(state), dim=1)

    def latent(self, state: FakeState) -> Tensor:
        return state.latent

    def observe(
        self, state: FakeState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[FakeState, Prediction]:
        imagined, prediction = self.imagine(state, action, noise=noise)
        return imagined._replace(latent=embedding), prediction

    def embedding_of(self, seen: Tensor, kind: str) -> Tensor:
        return seen[..., : self.latent_size]

    def with_latent(self, state: FakeState, latent: Tensor) -> FakeState:
        return state._replace(latent=latent)


class CountingMemory(_FakeMemory):
    """Every latent grows by the sum of the action; the reward is that sum plus the age; the end comes at `lifetime`.

    At an age of `broken_from` and more, the reward is NaN.

    Args:
        latent_size: Z.
        lifetime: Steps until the end.
        broken_from: Age from which on rewards are NaN.
    """

    def __init__(
        self,
        latent_size: int = LATENT_SIZE,
        action_space: gym.Space[Any] | None = None,
        *,
        lifetime: int = 10**9,
        broken_from: int = 10**9,
    ) -> None:
        super().__init__(latent_size, action_space)
        self.lifetime = lifetime
        self.broken_from = broken_from

    def config(self) -> dict[str, Any]:
        return {
            "kind": "counting",
            "latent_size": self.latent_size,
            "lifetime": self.lifetime,
            "broken_from": self.broken_from,
        }

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> FakeState:
        zeros = torch.zeros(len(embedding), 1, device=embedding.device)
        return FakeState(embedding, zeros, zeros.clone())

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        gain = action.float().reshape(len(action), -1).sum(1, keepdim=True)
        age = state.age + 1
        reward = (gain + age).squeeze(1)
        reward = torch.where(age.squeeze(1) >= self.broken_from, torch.nan, reward)
        terminated = (age >= self.lifetime).squeeze(1)
        return FakeState(state.latent + gain, age, state.drawn), Prediction(reward, terminated.float(), terminated)


class NoisyMemory(_FakeMemory):
    """Latents are a walk of normal steps; the end, the reward and a number kept from the start are drawn too.

    Args:
        latent_size: Z.
        death: Chance of the end at each step.
    """

    terminations = ("sample", "cut")

    def __init__(
        self, latent_size: int = LATENT_SIZE, action_space: gym.Space[Any] | None = None, *, death: float = 0.1
    ) -> None:
        super().__init__(latent_size, action_space)
        self.death = death
        self.termination = "sample"

    def config(self) -> dict[str, Any]:
        return {"kind": "noisy", "latent_size": self.latent_size, "death": self.death}

    def branch(self, state: FakeState, times: int, *, noise: torch.Generator | Noise) -> FakeState:
        branches = super().branch(state, times, noise=noise)
        return branches._replace(drawn=as_noise(noise).uniform(len(branches.drawn), 1))

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> FakeState:
        drawn = as_noise(noise).uniform(len(embedding), 1)
        return FakeState(embedding, torch.zeros_like(drawn), drawn)

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        noise = as_noise(noise)
        rows = len(action)
        step = noise.normal(rows, self.latent_size) * temperature + state.drawn
        gain = action.float().reshape(rows, -1)[:, :1]
        latent = 0.5 * state.latent + step + 0.01 * gain
        probability = torch.full((rows,), self.death, device=latent.device)
        terminated = noise.uniform(rows, 1).squeeze(1) < probability
        if self.termination == "cut" or temperature == 0:
            terminated = probability > 0.5
        return FakeState(latent, state.age + 1, state.drawn), Prediction(latent[:, 0], probability, terminated)


def fake_world_model(
    memory: MemoryModel[Any] | None = None,
    *,
    action_space: gym.Space[Any] = DISCRETE,
    image: bool = False,
    max_episode_steps: int = 7,
    replay: bool = True,
) -> WorldModel:
    """A world model of `memory` (None: `CountingMemory`), whose start states are 5 first and 4 replay ones."""
    memory = CountingMemory() if memory is None else memory
    size = memory.latent_size
    initial = 10.0 * torch.arange(5).float().unsqueeze(1) + torch.arange(size).float()
    kept = {"latent": -initial[:4], "age": torch.full((4, 1), 2.0), "drawn": torch.full((4, 1), 0.25)}
    return WorldModel(
        small_vae(size) if image else IdentityVision(size),
        memory,
        RealEnvSpec("Pendulum-v1", action_repeat=2),
        action_space,
        StartStates(initial, kept if replay else {}),
        max_episode_steps=max_episode_steps,
    )


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Overwrite what torch's global generator has put into the parameters, so that every process gets the same."""
    for weights in module.parameters():
        fan_in = weights[0].numel() if weights.dim() > 1 else 4
        weights.copy_(torch.randn(weights.shape, generator=generator) / fan_in**0.5)


def small_vae(latent_size: int) -> ConvVAE:
    """A V of fixed random weights, which is cheap."""
    vision = ConvVAE(latent_size, 4)
    draw_weights(vision, torch.Generator().manual_seed(4))
    return vision
