"""The game of examples/12_alphazero_tictactoe.py: its rules, its perfect player, and a search that plays it."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from dreamenv.planners import search_environment


@pytest.fixture(scope="module")
def game(root: Path) -> dict[str, Any]:
    return runpy.run_path(str(root / "examples" / "12_alphazero_tictactoe.py"))


def scripted(*squares: int) -> Any:
    """An opponent that takes these squares in turn."""
    left = list(squares)
    return lambda board, rng: left.pop(0)


def placed_squares(env: Any, board: tuple[int, ...], action: int) -> list[int]:
    """The agent's squares after an action on a board."""
    env.reset(seed=0)
    env.set_state(board)
    return list(np.flatnonzero(env.step(action)[0][:9]))


def test_it_is_an_environment(game: dict[str, Any]) -> None:
    check_env(game["TicTacToe"](game["aimless"]), skip_render_check=True)


def test_a_game(game: dict[str, Any]) -> None:
    env = game["TicTacToe"](scripted(3, 4), begins="agent")
    env.reset(seed=0)
    observation, reward, terminated, truncated, _ = env.step(0)
    assert np.flatnonzero(observation).tolist() == [0, 9 + 3]
    assert (reward, terminated, truncated) == (0.0, False, False)
    kept = env.get_state()
    env.step(1)
    _, reward, terminated, _, _ = env.step(2)
    assert (reward, terminated) == (1.0, True)
    env.set_state(kept)
    # Square 3 is taken, and so the next one is taken; behind the last square comes the first
    assert placed_squares(game["TicTacToe"](scripted(5), begins="agent"), kept, 3) == [0, 4]
    assert placed_squares(game["TicTacToe"](scripted(4), begins="agent"), (0,) * 8 + (1,), 8) == [0, 8]
    loses = game["TicTacToe"](scripted(3, 4, 5), begins="opponent")
    observation, _ = loses.reset(seed=0)
    assert np.flatnonzero(observation).tolist() == [9 + 3]
    loses.step(0)
    assert loses.step(1)[1:3] == (-1.0, True)
    beginnings = [game["TicTacToe"](game["aimless"]).reset(seed=seed)[0].sum() for seed in range(20)]
    assert set(beginnings) == {0.0, 1.0}


def test_the_perfect_player_never_loses(game: dict[str, Any]) -> None:
    play, perfect, aimless = game["play"], game["perfect"], game["aimless"]
    assert game["outcome"]((0,) * 9) == 0
    for begins in ("agent", "opponent"):
        against_any = play(perfect, aimless, begins=begins, games=60, seed=1)
        assert against_any["losses"] == 0
        assert against_any["wins"] > 30
        assert play(perfect, perfect, begins=begins, games=10, seed=1) == {"wins": 0, "draws": 10, "losses": 0}
        assert play(aimless, perfect, begins=begins, games=40, seed=1)["losses"] > 10
    # Two in a line are completed, and those of the opponent are blocked
    rng = np.random.default_rng(0)
    assert perfect((1, 1, 0, -1, -1, 0, 0, 0, 0), rng) == 2
    assert perfect((-1, -1, 0, 0, 1, 0, 0, 0, 0), rng) == 2


def test_a_search_finds_the_square_that_wins_or_saves(game: dict[str, Any]) -> None:
    env = game["TicTacToe"](game["perfect"])
    env.reset(seed=0)
    for board in ((1, 1, 0, -1, -1, 0, 0, 0, 0), (-1, -1, 0, 0, 1, 0, 0, 0, 0)):
        env.set_state(board)
        plan = search_environment(env, generator=np.random.default_rng(0), simulations=120, horizon=9, discount=1.0)
        # Squares 0 and 1 are taken, and so each of these three actions takes square 2
        assert plan.action in (0, 1, 2)
        assert plan.visits[:3].sum() > plan.visits[3:].sum()
        assert env.get_state() == board, "the game is where it was"


def test_chances_of_a_network_are_of_free_squares(game: dict[str, Any]) -> None:
    network = game["PolicyValue"](18, spaces.Discrete(9), width=4)
    board = (1, -1, 0, 0, 0, 0, 0, 0, -1)
    found = game["chances"](network, board)
    assert found.sum() == pytest.approx(1)
    assert found[[0, 1, 8]].tolist() == [0, 0, 0]
    # Squares 8, 0 and 1 are taken, and so square 2 gets what four actions have; they are about alike at first
    assert found[2] == pytest.approx(4 / 9, abs=0.05)
    rng = np.random.default_rng(0)
    assert game["alone"](network)(board, rng) == 2
    assert {game["sampled"](network)(board, rng) for _ in range(60)} <= {2, 3, 4, 5, 6, 7}
