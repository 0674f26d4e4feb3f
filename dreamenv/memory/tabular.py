"""A table of what has followed what: the memory model of Dyna-Q."""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel, Prediction
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.noise.base import Noise, as_noise


class TabularState(NamedTuple):
    """One moment of B dreams.

    Attributes:
        place: `[B]` int64, the number of the environment's state.
    """

    place: Tensor


class TabularMemory(MemoryModel[TabularState]):
    """M of an environment with S states and A actions: counted transitions, mean rewards, counted ends (Sutton & Barto
    2018, "Reinforcement learning", section 8.2; theirs keeps the last outcome, this one draws from all).

    The latent is the one-hot state, so that vision is `IdentityVision(S)`. A pair that was never counted stays where it
    is with reward 0: dream only of pairs that were, as Dyna-Q does. It counts and is not differentiable.

    Args:
        latent_size: S.
        action_space: Discrete.

    Raises:
        ConfigurationError: No states, or another action space.
    """

    differentiable = False
    markov = True
    memoryless = True
    counts: Tensor
    ends: Tensor
    mean_reward: Tensor
    latent_std: Tensor

    def __init__(self, latent_size: int, action_space: gym.Space[Any]) -> None:
        super().__init__()
        if latent_size < 1:
            raise ConfigurationError(f"a table needs at least 1 state, got {latent_size}")
        if not isinstance(action_space, spaces.Discrete):
            raise ConfigurationError(f"a table takes Discrete actions, got {action_space}")
        self.embedding_size = self.latent_size = self.feature_size = latent_size
        self._first_action = int(action_space.start)
        shape = (latent_size, int(action_space.n), latent_size)
        self.register_buffer("counts", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("ends", torch.zeros(shape, dtype=torch.int64))
        self.register_buffer("mean_reward", torch.zeros(shape))
        # Of one-hot states, the unit is one state
        self.register_buffer("latent_std", torch.ones(latent_size), persistent=False)

    @property
    def state_type(self) -> type[TabularState]:
        return TabularState

    def config(self) -> dict[str, Any]:
        return {"kind": "tabular", "latent_size": self.latent_size}

    @torch.no_grad()
    def count(self, place: int, action: int, reward: float, next_place: int, terminated: bool) -> None:
        """Enter one real transition; states and actions as the environment numbers them."""
        entry = place, action - self._first_action, next_place
        self.counts[entry] += 1
        self.ends[entry] += int(terminated)
        self.mean_reward[entry] += (reward - self.mean_reward[entry]) / self.counts[entry]

    def tried(self) -> np.ndarray:
        """`[S, A]` bool: the pairs that have been counted."""
        return (self.counts.sum(-1) > 0).cpu().numpy()

    def initial(self, embedding: Tensor, *, noise: torch.Generator | Noise) -> TabularState:
        return TabularState(embedding.argmax(-1))

    def features(self, state: TabularState) -> Tensor:
        return functional.one_hot(state.place, self.latent_size).float()

    def latent(self, state: TabularState) -> Tensor:
        return self.features(state)

    def embedding_of(self, seen: Tensor, kind: str) -> Tensor:
        return seen

    def observe(
        self, state: TabularState, action: Tensor, embedding: Tensor, *, noise: torch.Generator | Noise
    ) -> tuple[TabularState, Prediction]:
        """A real step. It is not counted: see `count`."""
        followed = TabularState(embedding.argmax(-1))
        return followed, self._predict(state, action, followed, as_noise(noise))

    def imagine(
        self, state: TabularState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[TabularState, Prediction]:
        """A dreamed step, drawn in proportion to the counts to the power of 1 / temperature; of 0, the state seen
        most."""
        noise = as_noise(noise)
        seen = self.counts[state.place, self._choice(action)].double()
        share = seen / seen.amax(-1, keepdim=True).clamp(min=1)
        if temperature == 0:
            mode = functional.one_hot(share.argmax(-1), self.latent_size)
            weights = mode.double() * (share.amax(-1, keepdim=True) > 0)
        else:
            weights = share.pow(1 / temperature)
        cumulative = weights.cumsum(-1)
        drawn = noise.uniform(len(action), 1).double() * cumulative[:, -1:]
        # Rounding may put the draw on the upper end: the last state that was ever seen takes it.
        following = (drawn >= cumulative).sum(-1).clamp(max=self.latent_size - 1)
        last_seen = self.latent_size - 1 - (weights.flip(-1) > 0).int().argmax(-1)
        following = torch.minimum(following, last_seen)
        followed = TabularState(torch.where(cumulative[:, -1] > 0, following, state.place))
        return followed, self._predict(state, action, followed, noise, mode=temperature == 0)

    def loss(self, batch: SequenceBatch) -> dict[str, Tensor]:
        """Negative log-likelihood in nats of real steps under the counts; nothing minimises it, counting does."""
        place, following = batch.latents[:, :-1].argmax(-1), batch.targets.argmax(-1)
        seen = self.counts[place, batch.actions - self._first_action].double()
        chosen = seen.gather(-1, following.unsqueeze(-1)).squeeze(-1)
        nll = -(chosen / seen.sum(-1)).log()
        nll = torch.where(batch.latent_mask > 0, nll, 0.0)
        return {"loss": (nll.sum() / batch.latent_mask.sum().clamp(min=1.0)).float()}

    def _choice(self, action: Tensor) -> Tensor:
        """Actions `[B]` from 0; they may come one-hot `[B, n]`, as an actor-critic gives them."""
        return action.argmax(-1) if action.is_floating_point() else action - self._first_action

    def _predict(
        self, state: TabularState, action: Tensor, followed: TabularState, noise: Noise, *, mode: bool = False
    ) -> Prediction:
        entry = state.place, self._choice(action), followed.place
        probability = self.ends[entry] / self.counts[entry].clamp(min=1)
        uniform = noise.uniform(len(action), 1).squeeze(1)
        terminated = probability > 0.5 if mode else uniform < probability
        return Prediction(self.mean_reward[entry], probability.float(), terminated)
