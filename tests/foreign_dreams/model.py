"""A small recurrent state-space model of vectors: V's embeddings are not M's latents, and both are fitted together."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from dreamenv.memory.actions import ActionEncoder
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.noise.base import Noise, as_noise
from dreamenv.vision.base import Vision


class LinearVision(Vision):
    """A linear encoder of vectors, and a linear decoder of [path, draw]."""

    is_image = False

    def __init__(self, size: int, embedding_size: int, latent_size: int) -> None:
        super().__init__()
        self.observation_shape = (size,)
        self.embedding_size = embedding_size
        self.latent_size = latent_size
        self.encoder = nn.Linear(size, embedding_size)
        self.decoder = nn.Linear(latent_size, size)

    def config(self) -> dict[str, Any]:
        sizes = {"embedding_size": self.embedding_size, "latent_size": self.latent_size}
        return {"kind": "foreign_linear", "size": self.observation_shape[0], **sizes}

    def encode(self, observation: Tensor) -> Tensor:
        return self.encoder(observation.float())

    def decode(self, latent: Tensor) -> Tensor:
        return self.decoder(latent)


class DriftState(NamedTuple):
    """One moment of B dreams: the deterministic path `[B, H]` and what was drawn from it `[B, S]`."""

    path: Tensor
    draw: Tensor


class DriftMemory(MemoryModel[DriftState]):
    """A GRU path and a Gaussian draw from it; `observe` draws from what the embedding says, `imagine` from the path."""

    latent_std: Tensor

    def __init__(self, embedding_size: int, path_size: int, draw_size: int, action_space: gym.Space[Any]) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.path_size, self.draw_size = path_size, draw_size
        self.latent_size = self.feature_size = path_size + draw_size
        self.actions = ActionEncoder(action_space)
        self.step = nn.GRUCell(draw_size + self.actions.size, path_size)
        self.from_path = nn.Linear(path_size, 2 * draw_size)
        self.from_both = nn.Linear(path_size + embedding_size, 2 * draw_size)
        self.reward = nn.Linear(self.latent_size, 1)
        self.end = nn.Linear(self.latent_size, 1)
        self.register_buffer("latent_std", torch.ones(self.latent_size))

    @property
    def state_type(self) -> type[DriftState]:
        return DriftState

    def config(self) -> dict[str, Any]:
        sizes = {"path_size": self.path_size, "draw_size": self.draw_size}
        return {"kind": "foreign_drift", "embedding_size": self.embedding_size, **sizes}

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> DriftState:
        path = torch.zeros(len(embedding), self.path_size, device=embedding.device)
        return DriftState(path, self.after(path, embedding)[0])

    def observe(
        self, state: DriftState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[DriftState, Prediction]:
        source = as_noise(noise)
        path = self.advance(state, action)
        expected, _ = self.before(path)
        mean, std = self.after(path, embedding)
        seen = DriftState(path, mean + std * source.normal(len(path), self.draw_size))
        return seen, self._predict(DriftState(path, expected), source)

    def imagine(
        self, state: DriftState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[DriftState, Prediction]:
        source = as_noise(noise)
        path = self.advance(state, action)
        mean, std = self.before(path)
        drawn = mean + temperature**0.5 * std * source.normal(len(path), self.draw_size)
        dreamed = DriftState(path, drawn)
        return dreamed, self._predict(dreamed, source, temperature)

    def features(self, state: DriftState) -> Tensor:
        return torch.cat(tuple(state), -1)

    def latent(self, state: DriftState) -> Tensor:
        return torch.cat(tuple(state), -1)

    def advance(self, state: DriftState, action: Tensor) -> Tensor:
        """The next path `[B, H]`."""
        return self.step(torch.cat([state.draw, self.actions(action)], -1), state.path)

    def before(self, path: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the draw before anything is seen."""
        return _gaussian(self.from_path(path))

    def after(self, path: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """The same once `embedding` is seen."""
        return _gaussian(self.from_both(torch.cat([path, embedding], -1)))

    def _predict(self, state: DriftState, noise: Noise, temperature: float = 1.0) -> Prediction:
        latent = self.latent(state)
        chance = torch.sigmoid(self.end(latent).squeeze(-1) - 3)
        drawn = noise.uniform(len(latent), 1).squeeze(1)
        terminated = chance > 0.5 if temperature == 0 else drawn < chance
        return Prediction(self.reward(latent).squeeze(-1), chance, terminated, {"surprise": latent.abs().mean(-1)})


def _gaussian(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, spread = outputs.chunk(2, -1)
    return mean, nn.functional.softplus(spread) + 0.05
