"""World models whose dreams are known beforehand, and small real ones that can be saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
import yaml
from gymnasium import spaces
from torch import Tensor, nn

from dreamenv.bundle import StartStates
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.noise.base import Noise, as_noise
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
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
    def __init__(self, latent_size: int = LATENT_SIZE) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.feature_size = latent_size + 2
        self.nothing = nn.Parameter(torch.zeros(1))

    @property
    def state_type(self) -> type[FakeState]:
        return FakeState

    def features(self, state: FakeState) -> Tensor:
        return torch.cat(tuple(state), dim=1)

    def latent(self, state: FakeState) -> Tensor:
        return state.latent

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        return {"loss": self.nothing.sum()}

    def config(self) -> dict[str, Any]:
        return {"kind": "fake"}


class CountingMemory(_FakeMemory):
    """Every latent grows by the sum of the action; the reward is that sum plus the age; the end comes at `lifetime`.

    At an age of `broken_from` and more, the reward is NaN.
    """

    def __init__(self, latent_size: int = LATENT_SIZE, *, lifetime: int = 10**9, broken_from: int = 10**9) -> None:
        super().__init__(latent_size)
        self.lifetime = lifetime
        self.broken_from = broken_from

    def initial(self, latent: Tensor, *, noise: torch.Generator | Noise) -> FakeState:
        zeros = torch.zeros(len(latent), 1, device=latent.device)
        return FakeState(latent, zeros, zeros.clone())

    def observe(
        self, state: FakeState, action: Tensor, latent: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[FakeState, Prediction]:
        imagined, prediction = self.imagine(state, action, noise=noise)
        return imagined._replace(latent=latent), prediction

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
    """Latents are a walk of normal steps; the end, the reward and a number kept from the start are drawn too."""

    def __init__(self, latent_size: int = LATENT_SIZE, *, death: float = 0.1) -> None:
        super().__init__(latent_size)
        self.death = death
        self.termination = "sample"

    def initial(self, latent: Tensor, *, noise: torch.Generator | Noise) -> FakeState:
        drawn = as_noise(noise).uniform(len(latent), 1)
        return FakeState(latent, torch.zeros_like(drawn), drawn)

    def observe(
        self, state: FakeState, action: Tensor, latent: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[FakeState, Prediction]:
        imagined, prediction = self.imagine(state, action, noise=noise)
        return imagined._replace(latent=latent), prediction

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
        if self.termination == "cut":
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
    """A world model of `memory` (None: `CountingMemory`), whose start states are 5 initial and 4 replay ones."""
    memory = CountingMemory() if memory is None else memory
    size = memory.latent_size
    initial = 10.0 * torch.arange(5).float().unsqueeze(1) + torch.arange(size).float()
    kept = {"latent": -initial[:4], "age": torch.full((4, 1), 2.0), "drawn": torch.full((4, 1), 0.25)}
    return WorldModel(
        _small_vae(size) if image else IdentityVision(size),
        memory,
        RealEnvSpec("Pendulum-v1", action_repeat=2),
        action_space,
        StartStates(initial, kept if replay else {}),
        max_episode_steps=max_episode_steps,
    )


def trained_like_world_model(
    *, action_space: gym.Space[Any] = BOX, image: bool = True, real: RealEnvSpec | None = None, latent_size: int = 4
) -> WorldModel:
    """A small MDN-RNN with fixed random weights, which can be saved; its mixtures are wide enough to be seen."""
    generator = torch.Generator().manual_seed(3)
    memory = MDNRNN(latent_size, action_space, hidden_size=8, mixtures=2)
    draw_weights(memory, generator)
    vision: Vision = _small_vae(latent_size) if image else IdentityVision(latent_size)
    initial = torch.randn(6, latent_size, generator=generator)
    hidden = torch.randn(5, 8, generator=generator).tanh()
    replay = {"latent": initial[:5], "hidden": hidden, "cell": 2 * hidden, "dropout": torch.ones(5, 0)}
    return WorldModel(
        vision,
        memory,
        real or RealEnvSpec("CarRacing-v3", action_repeat=4),
        action_space,
        StartStates(initial, replay),
        max_episode_steps=20,
        temperature=1.1,
        provenance={"real_frames": 0},
    )


@torch.no_grad()
def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Overwrite what torch's global generator has put into the parameters, so that every process gets the same."""
    for weights in module.parameters():
        fan_in = weights[0].numel() if weights.dim() > 1 else 4
        weights.copy_(torch.randn(weights.shape, generator=generator) / fan_in**0.5)


def _small_vae(latent_size: int) -> ConvVAE:
    vision = ConvVAE(latent_size, 4)
    draw_weights(vision, torch.Generator().manual_seed(4))
    return vision


def write_registry(
    folder: Path,
    name: str,
    model: WorldModel,
    *,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Save `model` under `folder` and write a registry.yaml that calls it `name`; `change` may alter the entry."""
    hashes = model.save(folder / "bundle")
    entry: dict[str, Any] = {
        "latent_id": name.replace("Dream", "Latent"),
        "checkpoint": "bundle",
        "sha256": hashes,
        "real": {"id": model.real.id, "action_repeat": model.real.action_repeat},
        "dream": {"max_episode_steps": model.max_episode_steps, "temperature": 1.25, "start": "replay"},
    }
    if change is not None:
        change(entry)
    path = folder / "registry.yaml"
    path.write_text(yaml.safe_dump({"format": 1, "environments": {name: entry}}), encoding="utf-8")
    return path
