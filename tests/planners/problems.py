"""Dreams to plan in whose best behaviour is known."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.bundle import StartStates
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.noise.base import Noise, as_noise
from dreamenv.planners import imagined_returns
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

BANDIT = spaces.Discrete(3, start=1)


class CartState(NamedTuple):
    """CartPole's observation `[B, 4]`."""

    latent: Tensor


class CartPoleMemory(MemoryModel[CartState]):
    """The physics of Gymnasium's CartPole-v1 (Barto, Sutton and Anderson 1983): a dream without error."""

    embedding_size = latent_size = feature_size = 4
    latent_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latent_std", torch.ones(self.latent_size))

    @property
    def state_type(self) -> type[CartState]:
        return CartState

    def initial(self, latent: Tensor, *, noise: torch.Generator | Noise) -> CartState:
        return CartState(latent)

    def observe(
        self, state: CartState, action: Tensor, latent: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[CartState, Prediction]:
        return CartState(latent), self.imagine(state, action, noise=noise)[1]

    def imagine(
        self, state: CartState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[CartState, Prediction]:
        place, speed, angle, turn = state.latent.unbind(1)
        force = 20.0 * action - 10.0
        push = (force + 0.05 * turn.square() * angle.sin()) / 1.1
        turning = (9.8 * angle.sin() - angle.cos() * push) / (0.5 * (4 / 3 - 0.1 * angle.cos().square() / 1.1))
        speeding = push - 0.05 * turning * angle.cos() / 1.1
        moved = (place + 0.02 * speed, speed + 0.02 * speeding, angle + 0.02 * turn, turn + 0.02 * turning)
        fallen = (moved[0].abs() > 2.4) | (moved[2].abs() > 12 * math.pi / 180)
        return CartState(torch.stack(moved, 1)), Prediction(torch.ones_like(place), fallen.float(), fallen)

    def features(self, state: CartState) -> Tensor:
        return state.latent

    def latent(self, state: CartState) -> Tensor:
        return state.latent

    def config(self) -> dict[str, Any]:
        return {"kind": "cart_pole"}


class BanditState(NamedTuple):
    """Return so far, `[B, 1]`."""

    latent: Tensor


class BanditMemory(MemoryModel[BanditState]):
    """Each of three actions pays its own mean, plus normal noise times the dream's temperature, at every step."""

    embedding_size = latent_size = feature_size = 1
    latent_std: Tensor
    means = torch.tensor([0.0, 0.5, 0.2])

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latent_std", torch.ones(self.latent_size))

    @property
    def state_type(self) -> type[BanditState]:
        return BanditState

    def initial(self, latent: Tensor, *, noise: torch.Generator | Noise) -> BanditState:
        return BanditState(latent)

    def observe(
        self, state: BanditState, action: Tensor, latent: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[BanditState, Prediction]:
        return BanditState(latent), self.imagine(state, action, noise=noise)[1]

    def imagine(
        self, state: BanditState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[BanditState, Prediction]:
        drawn = as_noise(noise).normal(len(action), 1).squeeze(1)
        reward = self.means[action - int(BANDIT.start)] + temperature * drawn
        return BanditState(state.latent + reward.unsqueeze(1)), Prediction(
            reward, torch.zeros_like(reward), torch.zeros_like(reward, dtype=torch.bool)
        )

    def features(self, state: BanditState) -> Tensor:
        return state.latent

    def latent(self, state: BanditState) -> Tensor:
        return state.latent

    def config(self) -> dict[str, Any]:
        return {"kind": "bandit"}


def cart_pole_model(*, max_episode_steps: int = 40) -> WorldModel:
    """CartPole-v1 with a dream that is exact."""
    return WorldModel(
        IdentityVision(4),
        CartPoleMemory(),
        RealEnvSpec("CartPole-v1", max_episode_steps=max_episode_steps),
        spaces.Discrete(2),
        StartStates(torch.zeros(1, 4)),
        max_episode_steps=max_episode_steps,
        provenance={"real_frames": 0},
    )


def bandit_model() -> WorldModel:
    """A dream of `BanditMemory`; no real environment belongs to it."""
    return WorldModel(
        IdentityVision(1), BanditMemory(), RealEnvSpec("Bandit-v0"), BANDIT, StartStates(torch.zeros(1, 1)),
        max_episode_steps=10,
    )  # fmt: skip


def state_at(model: WorldModel, *places: float) -> Any:
    """The memory state at one-dimensional latents `places`."""
    return model.memory.initial(torch.tensor(places).unsqueeze(1), noise=torch.Generator())


def best_return(model: WorldModel, state: Any, length: int, **options: Any) -> Tensor:
    """`[B]`, the highest return of all plans of Discrete actions."""
    space = model.action_space
    assert isinstance(space, gym.spaces.Discrete)
    every = torch.tensor(list(itertools.product(range(int(space.n)), repeat=length))) + int(space.start)
    plans = every.unsqueeze(0).expand(len(state[0]), -1, -1)
    return imagined_returns(model, state, plans, noise=torch.Generator(), **options).amax(1)
