"""Short dreams that branch off real states, and how long they may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.states import select


@dataclass(frozen=True)
class BranchSchedule:
    """Branch length k by real steps: `first` until step `begin`, `last` from step `end` on, linear between (Janner et
    al. 2019, appendix C: "x → y over epochs a → b"; here a and b are real steps).

    Raises:
        ConfigurationError: A length below 1, a schedule that falls, or an end before its beginning.
    """

    first: int = 1
    last: int = 1
    begin: int = 0
    end: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last or not 0 <= self.begin <= self.end:
            raise ConfigurationError(
                f"a branch schedule needs 1 <= first <= last and 0 <= begin <= end; got lengths {self.first} to "
                f"{self.last} over steps {self.begin} to {self.end}"
            )

    def length(self, real_steps: int) -> int:
        """k after `real_steps` steps."""
        if real_steps >= self.end:
            return self.last
        if real_steps <= self.begin:
            return self.first
        share = (real_steps - self.begin) / (self.end - self.begin)
        return int(self.first + share * (self.last - self.first))


@dataclass(frozen=True)
class Branches:
    """M dreamed transitions.

    Attributes:
        observations: `[M, D]` float32, what the agent saw.
        actions: `[M, A]` in [-1, 1] (Box) or `[M, 1]` (Discrete), as Stable-Baselines3 stores them.
        rewards: `[M]` float32.
        next_observations: `[M, D]` float32.
        terminated: `[M]` float32, 1 where the dream ended; a branch that was cut at its length has not.
    """

    observations: NDArray[np.float32]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    next_observations: NDArray[np.float32]
    terminated: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rewards)


def join(parts: list[Branches]) -> Branches:
    """All transitions of `parts` in their order."""
    return Branches(*(np.concatenate(fields) for fields in zip(*(vars(part).values() for part in parts), strict=True)))


@torch.no_grad()
def dream_branches(
    memory: MemoryModel[Any],
    starts: Any,
    length: int,
    choose: Callable[[NDArray[np.float32]], tuple[NDArray[Any], NDArray[Any]]],
    *,
    observation: str,
    noise: torch.Generator,
    temperature: float = 1.0,
) -> Branches:
    """Dream `length` steps from each of B memory states; a branch that ends is not gone on with.

    Args:
        memory: M.
        starts: A memory state of B rows.
        length: k.
        choose: Observations `[B, D]` to actions for M `[B, A]` or `[B]`, and the same as they are to be stored.
        observation: "features" or "latent", what the agent sees.
        noise: Draws the dreams, on the memory's device.
        temperature: Of the dream.

    Raises:
        NonFiniteError: A dream became NaN or infinite.
    """
    see = memory.features if observation == "features" else memory.latent
    dream = memory.stepper(len(starts[0]))
    state, seen = starts, see(starts).float().cpu().numpy()
    parts = []
    for _ in range(length):
        actions, stored = choose(seen)
        taken = torch.from_numpy(actions).to(memory.device)
        state, prediction = dream(state, taken, noise=noise, temperature=temperature)
        following = see(state).float().cpu().numpy()
        rewards = prediction.reward.float().cpu().numpy()
        terminated = prediction.terminated.cpu().numpy()
        if not (np.isfinite(following).all() and np.isfinite(rewards).all()):
            raise NonFiniteError(
                f"a branch of {length} steps became NaN or infinite. Shorten the branches, or fit the memory "
                "model to more data."
            )
        parts.append(Branches(seen, stored, rewards, following, terminated.astype(np.float32)))
        if terminated.all():
            break
        on = ~terminated
        state, seen = select(state, torch.from_numpy(on).to(memory.device)), following[on]
    return join(parts)
