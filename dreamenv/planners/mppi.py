"""Model-predictive path integral control: plans are averaged by how well they did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from dreamenv.noise.base import Noise
from dreamenv.planners.arguments import check_count, check_positive
from dreamenv.planners.sequence_planner import Found, Score, SequencePlanner, with_mode
from dreamenv.planners.sequences import Sequences


@dataclass(frozen=True, kw_only=True)
class MPPI(SequencePlanner):
    """Draws plans around a centre and moves it to their mean under the weights exp(R / λ).

    Williams et al. 2017, "Information theoretic MPC for model-based reinforcement learning", with the dreamed return R
    in place of a negative cost. Departures: λ is measured in standard deviations of the candidates'
    returns, so that one value fits tasks of any scale of reward; there is no separate control cost; draws are clipped
    to the bounds; Discrete plans are drawn and averaged as categorical distributions, as in `CEM`.

    Attributes:
        iterations: How often the centre is moved; the source moves it once and relies on the warm start.
        softness: λ. Near 0 the best candidate alone counts, and the larger it is, the more the others do.
        spread: Of the draws; as `CEM.spread`, but it stays.

    The others are those of `SequencePlanner`.
    """

    scheme: ClassVar[str] = "mppi"

    candidates: int = 256
    iterations: int = 2
    softness: float = 0.2
    spread: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(iterations=self.iterations)
        check_positive(softness=self.softness, spread=self.spread)

    def _search(self, sequences: Sequences, score: Score, centre: Tensor, noise: Noise) -> Found:
        spread = sequences.initial_spread(centre, self.spread)
        for _ in range(self.iterations):
            candidates = with_mode(sequences, centre, sequences.around(centre, spread, self.candidates, noise))
            returns = score(candidates)
            scale = self.softness * returns.std(dim=1, keepdim=True, correction=0)
            smallest = torch.finfo(returns.dtype).tiny  # candidates that are all alike weigh the same
            weights = torch.softmax((returns - returns.amax(1, keepdim=True)) / scale.clamp(min=smallest), dim=1)
            value = (weights * returns).sum(1)
            centre = sequences.refit_centre(candidates, weights.to(centre))
        return Found(centre, value)
