"""The cross-entropy method: plans are drawn around those that did best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import Noise
from dreamenv.planners.arguments import check_count, check_positive, check_share
from dreamenv.planners.sequence_planner import Found, Score, SequencePlanner, with_mode
from dreamenv.planners.sequences import Sequences, sequences_of


@dataclass(frozen=True, kw_only=True)
class CEM(SequencePlanner):
    """Draws plans around a centre, refits centre and spread to the elites, and repeats; the answer is the centre, or
    the best plan that was scored.

    Rubinstein & Kroese 2004, "The cross-entropy method". With `momentum=0` as in PlaNet (Hafner et al. 2019, "Learning
    latent dynamics for planning from pixels", algorithm 2); with `momentum=0.1` and `discount=1` as in PETS (Chua et
    al. 2018, "Deep reinforcement learning in a handful of trials using probabilistic dynamics models", section 5 and
    its code). Departures: draws beyond the bounds are clipped to them, where PETS truncates the Gaussian; the centre
    itself is always among the candidates; Discrete plans are drawn from a categorical distribution for each entry,
    refitted to the elites' frequencies.

    Attributes:
        iterations: How often centre and spread are refitted.
        elites: Candidates to which they are refitted, at most `candidates`.
        momentum: Share of the former centre and spread that stays, in [0, 1).
        spread: In which a search begins. Box: standard deviation, where 1 is half the range of the actions. Discrete:
            share of actions drawn uniformly instead of from the centre, at most 1.
        least_spread: Below which the spread does not fall, so that later iterations still search.
        colour: β of the draws of Box plans (Pinneri et al. 2020, "Sample-efficient cross-entropy method for real-time
            planning", section 3.1): 0 draws each entry alone; with 2 to 4 they go together, and plans get somewhere.
        kept: Share of the elites that are candidates of the next iteration again, in [0, 1] (there, section 3.3: 0.3).
        best: Whether the answer is the best plan of all iterations, the last centre among them, and not that centre
            (as there). A search of few candidates and iterations ends with a centre that may be worse than
            the one it began from, such as a guide's proposal; the best plan is not. Where dreams are drawn at random it
            was lucky as well: then score each by several `particles`.

    The others are those of `SequencePlanner`.
    """

    scheme: ClassVar[str] = "cem"

    iterations: int = 4
    elites: int = 16
    momentum: float = 0.1
    spread: float = 0.5
    least_spread: float = 0.05
    colour: float = 0.0
    kept: float = 0.0
    best: bool = False

    def check_actions(self, action_space: gym.Space[Any]) -> None:
        """As for all planners of sequences; `colour` is refused where draws have none.

        Raises:
            ConfigurationError: Such actions, or such a colour.
        """
        sequences_of(action_space, torch.device("cpu")).check_colour(self.colour)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(iterations=self.iterations, elites=self.elites)
        check_share(momentum=self.momentum)
        check_positive(spread=self.spread, least_spread=self.least_spread)
        if not (math.isfinite(self.colour) and self.colour >= 0) or not 0 <= self.kept <= 1:
            raise ConfigurationError(
                f"colour must be a finite number of at least 0 and kept in [0, 1], got {self.colour!r} and "
                f"{self.kept!r}"
            )
        if self.kept and self.elites >= self.candidates:
            raise ConfigurationError(
                f"kept={self.kept}: with elites={self.elites} of candidates={self.candidates} nothing new would be "
                "drawn"
            )
        if self.elites > self.candidates:
            raise ConfigurationError(
                f"elites={self.elites} of candidates={self.candidates}: the elites are the best of the candidates, "
                f"so there cannot be more; give elites={max(self.candidates // 4, 1)}, say"
            )

    def _search(self, sequences: Sequences, score: Score, centre: Tensor, noise: Noise) -> Found:
        spread = sequences.initial_spread(centre, self.spread)
        again = 0
        kept = centre.unsqueeze(1)
        leader = Found(centre, torch.full((len(centre),), -torch.inf, dtype=torch.float64, device=centre.device))
        for _ in range(self.iterations):
            drawn = sequences.around(centre, spread, self.candidates - again, noise, colour=self.colour)
            candidates = with_mode(sequences, centre, drawn)
            if again:
                candidates = torch.cat([candidates, kept], dim=1)
            returns = score(candidates)
            # A stable sort breaks ties alike in every batch
            best = returns.sort(dim=1, descending=True, stable=True).indices[:, : self.elites]
            again = round(self.kept * self.elites)
            kept = candidates.take_along_dim(best[:, :again, None, None], dim=1)
            if self.best:
                leader = _better(leader, candidates, returns, best[:, :1])
            weights = torch.zeros_like(returns).scatter_(1, best, 1 / self.elites)
            value = (weights * returns).sum(1)
            shares = weights.to(centre)
            centre = self._blend(centre, sequences.refit_centre(candidates, shares))
            spread = self._blend(spread, sequences.refit_spread(candidates, shares, self.least_spread))
        if not self.best:
            return Found(centre, value)
        last = sequences.mode(centre).unsqueeze(1)
        return _better(leader, last, score(last), torch.zeros_like(best[:, :1]))

    def _blend(self, former: Tensor, refitted: Tensor) -> Tensor:
        return self.momentum * former + (1 - self.momentum) * refitted


def _better(leader: Found, candidates: Tensor, returns: Tensor, which: Tensor) -> Found:
    """The candidate `which` `[B, 1]` of each row where it is better than the leader, and the leader elsewhere."""
    plan = candidates.take_along_dim(which[..., None, None], dim=1).squeeze(1)
    worth = returns.take_along_dim(which, dim=1).squeeze(1)
    better = worth > leader.value
    return Found(torch.where(better.view(-1, 1, 1), plan, leader.centre), torch.where(better, worth, leader.value))
