"""Golden trees: small enough to be searched by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dreamenv.planners import SearchTree, search
from dreamenv.planners.tree import Outcome


class Known:
    """Action a pays `rewards[a]` everywhere; every node is worth `value`; taking `fatal` ends the task."""

    def __init__(
        self,
        rewards: list[float],
        *,
        rows: int = 1,
        discount: float = 1.0,
        value: float = 0.0,
        fatal: int = -1,
        prior: list[float] | None = None,
    ) -> None:
        self.rows, self.actions = rows, len(rewards)
        self.rewards = np.array(rewards)
        self.discount, self.value, self.fatal = discount, value, fatal
        self.prior = np.tile(prior or [1 / len(rewards)] * len(rewards), (rows, 1))
        self.opened: list[tuple[int, list[int], list[int], list[int], list[bool]]] = []

    def root(self) -> tuple[NDArray[Any], NDArray[Any]]:
        return np.full(self.rows, self.value), self.prior

    def open(
        self,
        node: int,
        parent: NDArray[np.int64],
        action: NDArray[np.int64],
        depth: NDArray[np.int64],
        wanted: NDArray[np.bool_],
    ) -> Outcome:
        self.opened.append((node, parent.tolist(), action.tolist(), depth.tolist(), wanted.tolist()))
        discount = np.where(action == self.fatal, 0.0, self.discount)
        return Outcome(self.rewards[action], discount, np.full(self.rows, self.value), self.prior)


def test_a_tree_of_five_simulations() -> None:
    """Two equal chances, rewards 0 and 1, at most two actions deep, nodes worth 0, c₁ 1.25.

    1. Nothing is known: action 0, worth 0.
    2. Action 0 was tried (bonus 0.44 against 0.88): action 1, worth 1; so returns range over 1.
    3. Values 0 and 1, bonuses equal: action 1; below it nothing is known: action 0, in all 1 + 0.
    4. 0 + 0.63 against 1 + 0.42: action 1; below it action 1, in all 1 + 1; so returns range over 2.
    5. 0 + 0.70 against 1.33 / 2 + 0.35: action 1; below it 0 + 0.54 against 1 / 2 + 0.54: action 1, which is closed.
    """
    model = Known([0.0, 1.0])
    tree = search(model, simulations=5, depth=2)
    assert [(parent, action, depth) for _, (parent,), (action,), (depth,), _ in model.opened[:4]] == [
        (0, 0, 1),
        (0, 1, 1),
        (2, 0, 2),
        (2, 1, 2),
    ]
    assert model.opened[4][4] == [False]
    assert tree.root_visits.tolist() == [[1, 4]]
    assert tree.child[0, 0].tolist() == [1, 2]
    assert tree.child[0, 2].tolist() == [3, 4]
    assert tree.visits[0, 2].tolist() == [1, 2]
    assert tree.closed[0].tolist() == [False, False, False, True, True, False]
    # Returns 0, 1, 1, 2, 2 and the root's own 0; below action 1: its own 0, then 0, 1, 1
    assert tree.root_value.tolist() == pytest.approx([6 / 6])
    assert tree.node_value[0, 2] == pytest.approx(2 / 4)
    assert tree.action_values(np.zeros(1, np.int64)).tolist() == [pytest.approx([0, 1.5])]
    assert tree.best_action().tolist() == [1]


def test_discount_and_leaf_values_are_backed_up() -> None:
    tree = search(Known([1.0], discount=0.5, value=8.0), simulations=2, depth=5)
    # 8 itself, 1 + 0.5 · 8, and 1 + 0.5 · (1 + 0.5 · 8)
    assert tree.root_value[0] == pytest.approx((8 + 5 + 3.5) / 3)
    assert tree.node_value[0, 1] == pytest.approx((8 + 5) / 2)


def test_the_prior_chooses_among_what_is_untried() -> None:
    model = Known([0.0, 0.0, 0.0], prior=[0.1, 0.7, 0.2])
    tree = search(model, simulations=10, depth=1)
    assert model.opened[0][2] == [1]
    # Without values the visits follow the prior
    assert tree.root_visits[0].tolist() == [1, 7, 2]


def test_an_end_closes_its_node_for_good() -> None:
    model = Known([5.0, 0.4], fatal=0, discount=0.9)
    tree = search(model, simulations=40, depth=30)
    assert tree.closed[0, tree.child[0, 0, 0]]
    assert (tree.child[0, tree.child[0, 0, 0]] == -1).all()
    assert tree.action_values(np.zeros(1, np.int64))[0, 0] == 5.0
    assert tree.best_action().tolist() == [0]
    # Where going on pays more than the end
    assert search(Known([5.0, 1.0], fatal=0, discount=0.9), simulations=200, depth=30).best_action().tolist() == [1]


def test_rows_are_searched_as_if_they_were_alone() -> None:
    class Scaled(Known):
        """Row b pays `scales[b]` times as much."""

        scales = np.array([1.0, -1.0, 3.0])

        def open(self, *where: Any) -> Outcome:
            found = super().open(*where)
            scale = self.scales if self.rows == 3 else self.scales[self.row : self.row + 1]
            return Outcome(found.reward * scale, found.discount, found.value, found.prior)

        row = 0

    together = search(Scaled([0.3, 1.0, 0.6], rows=3, fatal=2), simulations=25, depth=4)
    for row in range(3):
        model = Scaled([0.3, 1.0, 0.6], fatal=2)
        model.row = row
        alone = search(model, simulations=25, depth=4)
        for name in ("visits", "child", "reward", "discount", "node_value", "node_visits", "closed"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[row], err_msg=name)
    assert together.best_action()[1] != together.best_action()[0]


def test_of_equally_visited_actions_the_better_is_chosen() -> None:
    tree = SearchTree(1, 4, 3)
    tree.visits[0, 0] = [2, 3, 3]
    tree.child[0, 0] = [1, 2, 3]
    tree.discount[0, 0] = 1
    tree.node_value[0, 1:] = [9, 1, 2]
    assert tree.best_action().tolist() == [2]


def test_every_simulation_is_a_visit_whatever_the_rounding() -> None:
    # 0.1 + 0.2 is not 0.3: differences of rounding must not pass for values
    model = Known([0.1 + 0.2, 0.3], discount=1.0)
    tree = search(model, simulations=20, depth=1)
    assert tree.root_visits.tolist() == [[10, 10]]
