"""Random shooting: the best of many random plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dreamenv.noise.base import Noise
from dreamenv.planners.sequence_planner import Found, Score, SequencePlanner, with_mode
from dreamenv.planners.sequences import Sequences


@dataclass(frozen=True, kw_only=True)
class RandomShooting(SequencePlanner):
    """Draws plans uniformly from the action space and keeps the one of the highest dreamed return.

    As in Nagabandi et al. 2018 ("Neural network dynamics for model-based deep reinforcement learning with model-free
    fine-tuning", section IV-C); here the plan of the moment before, shifted, is one of the candidates.

    Attributes are those of `SequencePlanner`.
    """

    scheme: ClassVar[str] = "shooting"

    candidates: int = 512

    def _search(self, sequences: Sequences, score: Score, centre: Tensor, noise: Noise) -> Found:
        rows, entries, _ = centre.shape
        drawn = sequences.uniform(rows, self.candidates, entries, noise)
        candidates = with_mode(sequences, centre, drawn)
        value, best = score(candidates).max(dim=1)
        return Found(candidates[torch.arange(rows, device=best.device), best], value)
