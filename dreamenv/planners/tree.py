"""Monte Carlo tree search over B trees at once, of whatever can say what an action leads to.

Letters in shapes: B rows (trees), M nodes of a tree (the simulations and the root), n actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

# Values that differ by less, relatively, are the same: a sum of rewards rounds.
_ROUNDING = 1e-12

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What taking one action in each of B nodes leads to.

    Attributes:
        reward: `[B]` expected reward of the edge, discounted within it.
        discount: `[B]` in [-1, 1], discount times the probability that the task goes on; 0 closes the new node. Below 0
            the other one of two players decides there, whose gain is the loss of the one before.
        value: `[B]` estimate of the return from the new node on.
        prior: `[B, n]` chances of the actions there, rows sum to 1.
    """

    reward: Floats
    discount: Floats
    value: Floats
    prior: Floats


class TreeModel(Protocol):
    """What a search asks of what it searches. It remembers the states of the nodes it has opened, by number."""

    @property
    def rows(self) -> int:
        """B."""

    @property
    def actions(self) -> int:
        """n."""

    def root(self) -> tuple[Floats, Floats]:
        """Value `[B]` and prior `[B, n]` of the roots, which are nodes 0."""

    def open(
        self, node: int, parent: Integers, action: Integers, depth: Integers, wanted: NDArray[np.bool_]
    ) -> Outcome:
        """Open node `node` of each tree by `action` `[B]` (from 0) in its node `parent` `[B]`.

        `depth` `[B]` is the new node's, in actions; where `wanted` `[B]` is False the row's outcome is not looked at.
        """


@runtime_checkable
class ChanceModel(TreeModel, Protocol):
    """One in which chance decides where an action leads, anew in every simulation that takes it."""

    def outcome(self, node: Integers, action: Integers, wanted: NDArray[np.bool_]) -> Integers:
        """`[B]`, the node to which action `action` `[B]` leads from node `node` `[B]` this time: one that was opened
        behind it before, or -1 for one that is not there yet and that `open` is then asked for.

        Where `wanted` `[B]` is False the row's outcome is not looked at.
        """


class Selection(Protocol):
    """How a search chooses: among the actions of a node while it grows, and at the root when it has ended."""

    def choose(self, tree: SearchTree, node: Integers, simulation: int, *, at_root: bool) -> Integers:
        """`[B]`, the action (from 0) in node `node` `[B]` in simulation `simulation` (from 0)."""

    def best(self, tree: SearchTree) -> Integers:
        """`[B]`, the action (from 0) that the search recommends."""

    def policy(self, tree: SearchTree) -> Floats:
        """`[B, n]`, the chances of the actions at the root that the search recommends; rows sum to 1."""


class SearchTree:
    """B search trees, all of the same size.

    Attributes:
        visits: `[B, M, n]`, how often each action was taken in each node.
        child: `[B, M, n]`, the node behind each action, -1 where it was never taken; where chance decides, the last.
        reward, discount: `[B, M, n]` of the edges; see `Outcome`.
        prior: `[B, M, n]`.
        node_visits: `[B, M]`, returns that were averaged into a node's value, its own estimate included.
        node_value: `[B, M]`, their mean.
        own_value: `[B, M]`, the estimate with which the node was opened.
        closed: `[B, M]`, nodes below which there is nothing to search: the task ended, or the depth is reached.
        least, most: `[B]`, the range of the returns that have come to the root.
        edge_value: `[B, M, n]`, the mean of the returns that have come by each edge, where chance decides.
        into_reward, into_discount: `[B, M]`, those of the edge by which a node was reached.

    Args:
        rows, nodes, actions: B, M and n.
        chance: Whether an action may lead to one of several nodes.
    """

    def __init__(self, rows: int, nodes: int, actions: int, *, chance: bool = False) -> None:
        self.chance = chance
        self.visits: Integers = np.zeros((rows, nodes, actions), np.int64)
        self.child: Integers = np.full((rows, nodes, actions), -1, np.int64)
        self.reward: Floats = np.zeros((rows, nodes, actions))
        self.discount: Floats = np.zeros((rows, nodes, actions))
        self.prior: Floats = np.zeros((rows, nodes, actions))
        self.node_visits: Integers = np.zeros((rows, nodes), np.int64)
        self.node_value: Floats = np.zeros((rows, nodes))
        self.own_value: Floats = np.zeros((rows, nodes))
        self.closed: NDArray[np.bool_] = np.zeros((rows, nodes), np.bool_)
        self.least: Floats = np.zeros(rows)
        self.most: Floats = np.zeros(rows)
        self.edge_value: Floats = np.zeros((rows, nodes, actions))
        self.into_reward: Floats = np.zeros((rows, nodes))
        self.into_discount: Floats = np.zeros((rows, nodes))

    def lead(self, rows: Integers, node: Integers, action: Integers, child: Integers) -> None:
        """Have the edges of action `action` in node `node` of trees `rows`, all `[k]`, lead to node `child`."""
        edges = (rows, node, action)
        self.child[edges] = child
        self.reward[edges] = self.into_reward[rows, child]
        self.discount[edges] = self.into_discount[rows, child]

    def action_values(self, node: Integers) -> Floats:
        """`[B, n]` returns of the actions in node `node` `[B]`; an untried one counts as the node itself."""
        each = np.arange(len(node))
        child = self.child[each, node]
        if self.chance:
            return np.where(child >= 0, self.edge_value[each, node], self.node_value[each, node][:, None])
        behind = self.reward[each, node] + self.discount[each, node] * self.node_value[each[:, None], child]
        return np.where(child >= 0, behind, self.node_value[each, node][:, None])

    @property
    def unit(self) -> Floats:
        """`[B]`, 1 divided by the range of the returns that have come to the root; 0 where they are all the same."""
        width = self.most - self.least
        apart = width > _ROUNDING * (np.abs(self.least) + np.abs(self.most))
        return np.where(apart, 1 / np.where(apart, width, 1.0), 0.0)

    @property
    def root_visits(self) -> Integers:
        """`[B, n]`."""
        return self.visits[:, 0]

    @property
    def root_value(self) -> Floats:
        """`[B]`."""
        return self.node_value[:, 0]

    def best_action(self) -> Integers:
        """`[B]`, the action taken most often at the root; of equals the one of the highest value, then the first."""
        values = self.action_values(np.zeros(len(self.visits), np.int64))
        most = self.root_visits == self.root_visits.max(axis=1, keepdims=True)
        return np.where(most, values, -np.inf).argmax(axis=1)


@dataclass(frozen=True)
class _Path:
    """The way from each root down to where the search leaves its tree; rows may end early.

    `nodes`, `actions` and `on` hold `[B]` for each step; the first two mean nothing where `on` is False. `end` `[B]` is
    the last node that exists, `action` `[B]` the last taken, `length` `[B]` how many were taken; where `opens` `[B]`,
    there is no node behind that action yet.
    """

    nodes: list[Integers]
    actions: list[Integers]
    on: list[NDArray[np.bool_]]
    end: Integers
    action: Integers
    length: Integers
    opens: NDArray[np.bool_]


@dataclass(frozen=True)
class PUCT:
    """Takes the action of the highest (Schrittwieser et al. 2020, "Mastering Atari, Go, chess and shogi by planning
    with a learned model", eq. 2)

        Q(s, a) + P(s, a) √N(s) / (1 + N(s, a)) · (c₁ + log((N(s) + c₂ + 1) / c₂)).

    Departures: N(s) counts the opening of s too, so that the prior chooses the first action there; Q is divided by the
    range of the returns that have come to the root, where the source takes the range of all values in the tree (eq. 5),
    which a horizon widens; an untried action counts as its node's value; one of prior 0 is never taken.

    Attributes:
        exploration: c₁.
        exploration_base: c₂.
    """

    exploration: float = 1.25
    exploration_base: float = 19652.0

    def choose(self, tree: SearchTree, node: Integers, simulation: int, *, at_root: bool) -> Integers:
        """`[B]`, the action of the highest score."""
        each = np.arange(len(node))
        visits = tree.visits[each, node]
        share = tree.action_values(node) * tree.unit[:, None]
        total = 1 + visits.sum(axis=1, keepdims=True)
        weight = self.exploration + np.log((total + self.exploration_base + 1) / self.exploration_base)
        prior = tree.prior[each, node]
        scores = np.where(prior > 0, share + prior * np.sqrt(total) / (1 + visits) * weight, -np.inf)
        return scores.argmax(axis=1)

    def best(self, tree: SearchTree) -> Integers:
        """`[B]`, the action taken most often at the root."""
        return tree.best_action()

    def policy(self, tree: SearchTree) -> Floats:
        """`[B, n]`, the shares of the visits at the root."""
        return tree.root_visits / tree.root_visits.sum(axis=1, keepdims=True)


def search(model: TreeModel, *, simulations: int, depth: int, selection: Selection | None = None) -> SearchTree:
    """Grow a tree for each row by one node a simulation.

    Each simulation walks down from the root as `selection` chooses, opens the node behind the last action, and averages
    its value, discounted, into all nodes on the way. Of a `ChanceModel` an action is worth the mean over the nodes to
    which chance has led behind it.

    Args:
        model: What is searched.
        simulations: Nodes a tree, the root not counted; a walk that ends in a closed node opens none.
        depth: Most actions from the root.
        selection: Chooses the actions; None is `PUCT()`.
    """
    selection = selection or PUCT()
    chance = model if isinstance(model, ChanceModel) else None
    tree = SearchTree(model.rows, simulations + 1, model.actions, chance=chance is not None)
    tree.node_value[:, 0], tree.prior[:, 0] = model.root()
    tree.own_value[:, 0] = tree.node_value[:, 0]
    tree.node_visits[:, 0] = 1
    tree.least[:] = tree.most[:] = tree.node_value[:, 0]
    for node in range(1, simulations + 1):
        path = _descend(tree, selection, node - 1, chance)
        outcome = model.open(node, path.end, path.action, path.length, path.opens)
        rows = np.flatnonzero(path.opens)
        tree.into_reward[rows, node], tree.into_discount[rows, node] = outcome.reward[rows], outcome.discount[rows]
        tree.lead(rows, path.end[rows], path.action[rows], np.full(len(rows), node))
        tree.prior[rows, node] = outcome.prior[rows]
        tree.own_value[rows, node] = outcome.value[rows]
        tree.closed[rows, node] = (outcome.discount[rows] == 0) | (path.length[rows] >= depth)
        leaf = np.where(path.opens, node, path.end)
        value = np.where(path.opens, outcome.value, tree.node_value[np.arange(model.rows), leaf])
        _back_up(tree, path, leaf, value)
    return tree


def _descend(tree: SearchTree, selection: Selection, simulation: int, chance: ChanceModel | None) -> _Path:
    each = np.arange(len(tree.visits))
    node, action, length = (np.zeros(len(each), np.int64) for _ in range(3))
    walking, opens = np.ones(len(each), np.bool_), np.zeros(len(each), np.bool_)
    nodes: list[Integers] = []
    actions: list[Integers] = []
    on: list[NDArray[np.bool_]] = []
    while walking.any():
        chosen = selection.choose(tree, node, simulation, at_root=not nodes)
        action = np.where(walking, chosen, action)
        nodes.append(node)
        actions.append(action)
        on.append(walking)
        length = length + walking
        child = tree.child[each, node, action] if chance is None else chance.outcome(node, action, walking)
        opens = opens | (walking & (child < 0))
        arrived = walking & (child >= 0)
        if chance is not None:
            rows = np.flatnonzero(arrived)
            tree.lead(rows, node[rows], action[rows], child[rows])
        node = np.where(arrived, child, node)
        walking = arrived & ~tree.closed[each, node]
    return _Path(nodes, actions, on, node, action, length, opens)


def _back_up(tree: SearchTree, path: _Path, leaf: Integers, value: Floats) -> None:
    _average(tree, np.arange(len(leaf)), leaf, value)
    for nodes, actions, on in zip(reversed(path.nodes), reversed(path.actions), reversed(path.on), strict=True):
        rows = np.flatnonzero(on)
        edges = (rows, nodes[rows], actions[rows])
        value[rows] = tree.reward[edges] + tree.discount[edges] * value[rows]
        tree.visits[edges] += 1
        if tree.chance:
            tree.edge_value[edges] += (value[rows] - tree.edge_value[edges]) / tree.visits[edges]
        _average(tree, rows, nodes[rows], value[rows])
    tree.least, tree.most = np.minimum(tree.least, value), np.maximum(tree.most, value)


def _average(tree: SearchTree, rows: Integers, nodes: Integers, value: Floats) -> None:
    tree.node_visits[rows, nodes] += 1
    tree.node_value[rows, nodes] += (value - tree.node_value[rows, nodes]) / tree.node_visits[rows, nodes]
