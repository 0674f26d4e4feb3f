"""The game of examples/13_i2a_sokoban.py: its rules, and rooms that can be solved."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("stable_baselines3")

from gymnasium.utils.env_checker import check_env

UP, RIGHT, DOWN, LEFT = range(4)


@pytest.fixture(scope="module")
def game(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "examples" / "13_i2a_sokoban.py"))


def place(row: int, column: int) -> int:
    """A square's number, counted from the upper left one inside."""
    return 7 * (row + 1) + column + 1


def standing(game: dict[str, Any], *, goals: set[int], boxes: set[int], player: int, wall: int) -> Any:
    env = game["Sokoban"]()
    env.reset(seed=0)
    env._room = game["Room"](game["BORDER"] | {wall}, frozenset(goals), frozenset(boxes), player)
    return env


def test_it_is_an_environment(game: dict[str, Any]) -> None:
    check_env(game["Sokoban"](), skip_render_check=True)


@pytest.mark.parametrize("held_out", [False, True])
def test_every_room_can_be_solved_and_none_is_for_both_uses(game: dict[str, Any], held_out: bool) -> None:
    for boxes in (1, 2):
        env = game["Sokoban"](held_out=held_out, boxes=boxes, pulls=8)
        for seed in range(15):
            env.reset(seed=seed)
            room = env._room
            assert room.held_out == held_out
            assert (len(room.walls - game["BORDER"]), len(room.goals), len(room.boxes)) == (3, boxes, boxes)
            assert not room.goals & room.boxes
            steps = [env.step(action) for action in env.solution]
            assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]
            # What is pushed onto goals and off them again comes to nothing
            assert sum(step[1] for step in steps) == pytest.approx(10 + boxes - 0.1 * len(steps))


def test_the_rules(game: dict[str, Any]) -> None:
    env = standing(
        game, goals={place(0, 3), place(4, 4)}, boxes={place(0, 2), place(1, 1)}, player=place(0, 0), wall=place(2, 1)
    )
    # The player goes right, and pushes the box onto its goal, off it, and against the border
    rewards = [env.step(RIGHT)[1] for _ in range(5)]
    assert rewards == pytest.approx([-0.1, 0.9, -1.1, -0.1, -0.1])
    assert (env._room.player, env._room.boxes) == (place(0, 3), {place(0, 4), place(1, 1)})
    for action in (LEFT, LEFT, DOWN):
        env.step(action)
    # A wall is behind the box, and another box cannot be pushed along
    assert env._room.player == place(0, 1)
    assert place(1, 1) in env._room.boxes
    row = standing(
        game, goals={place(4, 4), place(4, 3)}, boxes={place(3, 1), place(3, 2)}, player=place(3, 0), wall=place(0, 0)
    )
    row.step(RIGHT)
    assert row._room.player == place(3, 0)


def test_what_is_seen_and_the_end(game: dict[str, Any]) -> None:
    env = standing(
        game, goals={place(0, 1), place(2, 3)}, boxes={place(0, 1), place(2, 2)}, player=place(2, 1), wall=place(4, 4)
    )
    observation, reward, terminated, truncated, _ = env.step(RIGHT)
    walls, goals, boxes, home, player = (np.flatnonzero(plane).tolist() for plane in observation.reshape(5, 25))
    assert (walls, goals, boxes, home, player) == ([24], [1, 13], [1, 13], [1, 13], [12])
    assert (reward, terminated, truncated) == (pytest.approx(10.9), True, False)
