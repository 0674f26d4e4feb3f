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


def aimless(board: tuple[int, ...], rng: np.random.Generator) -> int:
    """A free square at random."""
    return int(rng.choice(np.flatnonzero(np.array(board) == 0)))


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
    check_env(game["TicTacToe"](aimless), skip_render_check=True)


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
    beginnings = [game["TicTacToe"](aimless).reset(seed=seed)[0].sum() for seed in range(20)]
    assert set(beginnings) == {0.0, 1.0}


def test_the_perfect_player_never_loses(game: dict[str, Any]) -> None:
    play, perfect = game["play"], game["perfect"]
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


def test_a_game_for_two(game: dict[str, Any]) -> None:
    env = game["TicTacToe"](None)
    check_env(game["TicTacToe"](None), skip_render_check=True)
    env.reset(seed=0)
    for square, other in ((0, 3), (1, 4)):
        observation, reward, terminated, _, _ = env.step(square)
        assert square + 9 in np.flatnonzero(observation), "the other one sees the board from the other side"
        assert (reward, terminated) == (0.0, False)
        assert other in np.flatnonzero(env.step(other)[0][9:])
    assert env.action_masks().tolist() == [False, False, True, False, False, True, True, True, True]
    observation, reward, terminated, truncated, _ = env.step(2)
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert np.flatnonzero(observation).tolist() == [3, 4, 9, 10, 11]


def test_all_lines_are_tried_against_a_player(game: dict[str, Any]) -> None:
    def first(board: tuple[int, ...], rng: Any) -> int:
        return int(game["legal"](board)[0])

    def careful(board: tuple[int, ...], rng: Any) -> int:
        return int(
            min(game["legal"](board), key=lambda at: (game["outcome"](game["turned"](game["placed"](board, at))), at))
        )

    for moves in (True, False):
        games, lost = game["lines"](first, moves=moves)
        assert 0 < lost < games
        games, lost = game["lines"](careful, moves=moves)
        assert (games > 50, lost) == (True, 0)
    # By hand: the one to move can only take the last square, and that is a draw, or a win of the other before it
    full = (1, -1, 1, 1, -1, -1, -1, 1, 0)
    assert game["lines"](first, full, moves=True) == (1, 0)
    assert game["lines"](first, (-1, -1, 0, 1, 1, -1, -1, 1, 1), moves=False) == (1, 0)
    assert game["lines"](first, (1, 1, 0, -1, -1, 1, -1, -1, 1), moves=False) == (1, 1)


def test_a_search_finds_the_square_that_wins_or_saves(game: dict[str, Any]) -> None:
    for env, discount in ((game["TicTacToe"](game["perfect"]), 1.0), (game["TicTacToe"](None), -1.0)):
        env.reset(seed=0)
        for board in ((1, 1, 0, -1, -1, 0, 0, 0, 0), (-1, -1, 0, 0, 1, 0, 0, 0, 0)):
            env.set_state(board)
            plan = search_environment(
                env, generator=np.random.default_rng(0), simulations=200, horizon=9, discount=discount
            )
            assert plan.action == 2
            assert not plan.visits[np.array(board) != 0].any()
            assert env.get_state() == board, "the game is where it was"


def test_a_network_plays_free_squares_and_guides_a_search_for_both_sides(game: dict[str, Any]) -> None:
    network = game["PolicyValue"].fresh(18, spaces.Discrete(9), width=4)
    rng = np.random.default_rng(0)
    assert game["alone"](network)((1, -1, 0, 1, -1, -1, -1, 1, 1), rng) == 2
    search = game["searching"](network, 200)
    # Whoever would win by square 2 takes it, and who would lose by it takes it too
    for board in ((1, 1, 0, -1, -1, 0, 0, 0, 0), (-1, -1, 0, 0, 1, 0, 0, 0, 0)):
        assert search(board, rng) == 2
