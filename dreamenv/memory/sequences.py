"""Real sequences as memories are fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceBatch:
    """Real sequences for teacher forcing. T actions, T+1 latents; padded steps have `mask` 0.

    Attributes:
        latents: `[B, T+1, Z]` float32, what M is given.
        targets: `[B, T, Z]` float32, what it is to predict: the next latents, or a less noisy view of them.
        actions: `[B, T, A]` float32 (Box) or `[B, T]` int64 (Discrete).
        rewards: `[B, T]` float32.
        terminated: `[B, T]` float32, 1 where the task ended at that step.
        mask: `[B, T]` float32, 1 where the step counts in the reward and termination losses.
        latent_mask: `[B, T]` float32, 1 where the step's next latent was really observed.
    """

    latents: Tensor
    targets: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    mask: Tensor
    latent_mask: Tensor

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same batch on `device`."""
        return SequenceBatch(
            self.latents.to(device),
            self.targets.to(device),
            self.actions.to(device),
            self.rewards.to(device),
            self.terminated.to(device),
            self.mask.to(device),
            self.latent_mask.to(device),
        )
