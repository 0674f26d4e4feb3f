"""Sequences on which M dreams for some steps while it is fitted, so that it learns to go on from its own dreams."""

from __future__ import annotations

from dataclasses import replace

import torch

from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.sequences import SequenceBatch


@torch.no_grad()
def with_own_inputs(
    memory: MDNRNN, batch: SequenceBatch, *, share: float, steps: int, generator: torch.Generator
) -> SequenceBatch:
    """The batch with a share of the latents that M is given replaced by what M itself draws there; targets stay.

    M is fitted to what is real after a real past, and dreams after a dreamed one. Training on its own predictions
    teaches it to come back (scheduled sampling, Bengio et al. 2015; for models of dynamics, Venkatraman et al. 2015,
    "Improving multi-step prediction of learned time series models"). All steps are drawn at once, pass after pass
    (Mihaylova & Martins 2019, "Scheduled sampling for transformers"): each pass draws from what the one before has
    left, with the same noise, so that after n passes the first n latents of a dreamed stretch are those of a dream.

    Args:
        memory: M.
        batch: Real sequences; the first latent of each stays real.
        share: In [0, 1], the probability that a latent is replaced.
        steps: Passes, the most steps that M dreams in a row.
        generator: Draws which, and what.
    """
    batch_size, length, size = batch.targets.shape
    device = batch.latents.device
    if share <= 0 or length < 2:
        return batch

    def uniform(columns: int) -> torch.Tensor:
        return torch.rand(batch_size, length, columns, generator=generator, device=device)

    chosen = uniform(1)[:, :-1] < share
    choosing = uniform(memory.mixture_weights)
    normal = torch.randn(batch_size, length, size, generator=generator, device=device)
    given = batch.latents
    for _ in range(steps):
        own = memory.drawn(given, batch.actions, uniform=choosing, normal=normal)[:, :-1]
        given = torch.cat([given[:, :1], torch.where(chosen, own, batch.latents[:, 1:-1]), batch.latents[:, -1:]], 1)
    return replace(batch, latents=given)
