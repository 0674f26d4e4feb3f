"""Gumbel's root selection with sequential halving: a search that improves on its prior with very few simulations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dreamenv.planners.tree import Floats, Integers, SearchTree


@dataclass(frozen=True)
class Gumbel:
    """How a search chooses, after Danihelka et al. 2022 ("Policy improvement by planning with Gumbel").

    At the root, the actions of the highest g + log P are considered (g is a Gumbel number of each), simulations are
    shared equally among them, and the better half by g + log P + σ(Q) goes on, again and again (algorithm 2; Karnin et
    al. 2013). Further down, visits follow the improved policy π' = softmax(log P + σ(Q)) as closely as whole numbers
    can (eq. 14). An action that was never tried is worth a mixture of the node's own value and those of its tried
    actions (eq. 33), and σ(Q) = (c_visit + max N) c_scale Q (eq. 8), with Q divided by the range of the returns that
    have come to the root.

    If Q is right, the chosen action is never worth less than the one of the highest g + log P, which is a draw from the
    prior: the search improves the policy with any number of simulations.

    Attributes:
        noise: `[B, n]`, the Gumbel numbers; zeros choose without chance.
        simulations: Of the search.
        considered: Most actions that are considered at the root.
        offset: c_visit.
        scale: c_scale.
    """

    noise: Floats
    simulations: int
    considered: int = 16
    offset: float = 50.0
    scale: float = 0.1

    def choose(self, tree: SearchTree, node: Integers, simulation: int, *, at_root: bool) -> Integers:
        """`[B]`, the action in node `node` `[B]` in simulation `simulation` (from 0)."""
        each = np.arange(len(node))
        visits = tree.visits[each, node]
        if not at_root:
            policy = self._improved(tree, node)
            return np.where(policy > 0, policy - visits / (1 + visits.sum(1, keepdims=True)), -np.inf).argmax(1)
        possible = (tree.prior[:, 0] > 0).sum(1)
        most = np.minimum(possible, min(self.considered, self.simulations))
        wanted = np.array([halving(int(count), self.simulations)[simulation] for count in most])
        return np.where(visits == wanted[:, None], self._root_scores(tree), -np.inf).argmax(1)

    def best(self, tree: SearchTree) -> Integers:
        """`[B]`, of the actions that were tried most often at the root the one of the highest score."""
        visits = tree.root_visits
        most = visits == visits.max(1, keepdims=True)
        return np.where(most, self._root_scores(tree), -np.inf).argmax(1)

    def policy(self, tree: SearchTree) -> Floats:
        """`[B, n]`, the improved policy π' at the root; rows sum to 1."""
        return self._improved(tree, np.zeros(len(tree.visits), np.int64))

    def _root_scores(self, tree: SearchTree) -> Floats:
        return self.noise + self._logits(tree, np.zeros(len(tree.visits), np.int64))

    def _improved(self, tree: SearchTree, node: Integers) -> Floats:
        logits = self._logits(tree, node)
        chances = np.exp(logits - logits.max(1, keepdims=True))
        return np.asarray(chances / chances.sum(1, keepdims=True))

    def _logits(self, tree: SearchTree, node: Integers) -> Floats:
        """`[B, n]`, log P + σ(Q) in node `node` `[B]`."""
        each = np.arange(len(node))
        visits = tree.visits[each, node]
        prior = tree.prior[each, node]
        tried = visits > 0
        values = tree.action_values(node)
        weight = (prior * tried).sum(1, keepdims=True)
        of_tried = (prior * tried * values).sum(1, keepdims=True) / np.where(weight > 0, weight, 1.0)
        count = visits.sum(1, keepdims=True)
        mixed = (tree.own_value[each, node][:, None] + count * of_tried) / (1 + count)
        share = np.where(tried, values, mixed) * tree.unit[:, None]
        sigma = (self.offset + visits.max(1, keepdims=True)) * self.scale * share
        with np.errstate(divide="ignore"):
            return np.log(prior) + sigma


@lru_cache(maxsize=256)
def halving(considered: int, simulations: int) -> tuple[int, ...]:
    """How often the action that simulation s takes at the root has been taken before, for each s.

    A phase takes the actions that are still considered equally often, and the next one takes half as many of them.

    Args:
        considered: Actions that the first phase takes.
        simulations: Of the search; what is left behind the last phase goes to the last two.
    """
    phases = max(1, math.ceil(math.log2(considered))) if considered > 1 else 1
    found: list[int] = []
    visited, left = 0, considered
    while len(found) < simulations:
        times = max(1, simulations // (phases * left))
        for visit in range(visited, visited + times):
            found += [visit] * left
        visited += times
        left = max(2, left // 2) if considered > 1 else 1
    return tuple(found[:simulations])


def gumbel_numbers(uniform: Floats) -> Floats:
    """Gumbel numbers of uniform ones in [0, 1)."""
    return np.asarray(-np.log(-np.log(np.clip(uniform, 1e-12, 1 - 1e-12))))
