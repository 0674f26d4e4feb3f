"""TicTacToe, and a network that learns it by searching against itself, as AlphaZero does.

Each round a tree search plays whole games against itself, and looks for the best move of either side; a network learns
the visits of the searches and the results of the games, and guides the next searches. In the end the network alone, and
a search with it, play a player that never errs, and every line of moves that an opponent could try.

Takes: about 20 minutes with the defaults.

python examples/12_alphazero_tictactoe.py [--out FOLDER] [--rounds N] [--decisions N] [--games N] [--json FILE]
"""

import argparse
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.agents.distillation import distill_environment
from dreamenv.agents.options import DistillationOptions
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.planners import Seen, search_environment

Board = tuple[int, ...]  # nine squares: 1 the one to move, -1 the other, 0 nobody
# Chooses a square on a board that is seen from its own side
Opponent = Callable[[Board, np.random.Generator], int]
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def winner(board: Board) -> int:
    """1 or -1 where three are in a line, else 0."""
    return next((board[a] for a, b, c in LINES if board[a] == board[b] == board[c] != 0), 0)


def legal(board: Board) -> list[int]:
    """The free squares."""
    return [square for square, taken in enumerate(board) if not taken]


def turned(board: Board) -> Board:
    """The board from the other side."""
    return tuple(-square for square in board)


def placed(board: Board, square: int) -> Board:
    """The board after the one to move has taken a square."""
    return (*board[:square], 1, *board[square + 1 :])


def square_of(board: Board, action: int) -> int:
    """The square that an action takes: its own, or the next free one behind it."""
    return next(place % 9 for place in range(action, action + 9) if not board[place % 9])


@cache
def outcome(board: Board) -> int:
    """What the one to move gets if nobody errs: 1, 0 or -1."""
    if winner(board):
        return winner(board)
    free = legal(board)
    return max(-outcome(turned(placed(board, square))) for square in free) if free else 0


def perfect(board: Board, rng: np.random.Generator) -> int:
    """Never errs; one of the best squares at random."""
    values = {square: -outcome(turned(placed(board, square))) for square in legal(board)}
    best = max(values.values())
    return int(rng.choice([square for square, value in values.items() if value == best]))


class TicTacToe(gym.Env[NDArray[np.float32], np.int64]):
    """The game, against an opponent inside or for two.

    With an opponent an action takes a square, and the opponent answers within the same step. Without, a step is the
    move of one side, and what is seen then is the board of the other, who moves next: this is what `search_environment`
    and `distill_environment` search for both sides with `discount=-1`.

    Observations are 18 numbers: own squares, then the other's. A win pays 1 to the one who moves, a loss -1, a draw 0.
    An action that names a square that is taken takes the next free one behind it, so that games of random actions are
    games; `action_masks` says which are free.

    Args:
        opponent: Answers; None: there is none.
        begins: Who moves first against an opponent: "agent", "opponent" or "either", which is drawn.
    """

    def __init__(self, opponent: Opponent | None = perfect, *, begins: str = "either") -> None:
        self.observation_space = spaces.Box(0, 1, (18,), np.float32)
        self.action_space = spaces.Discrete(9)
        self.board: Board = (0,) * 9
        self._opponent, self._begins = opponent, begins

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """An empty board, or one with the opponent's first square."""
        super().reset(seed=seed)
        self.board = (0,) * 9
        if self._opponent is not None and (
            self._begins == "opponent" or (self._begins == "either" and self.np_random.random() < 0.5)
        ):
            self._answer(self._opponent)
        return seen(self.board), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take a square."""
        self.board = placed(self.board, square_of(self.board, int(action)))
        if self._opponent is not None and not winner(self.board) and legal(self.board):
            self._answer(self._opponent)
        result = winner(self.board)
        ended = bool(result) or not legal(self.board)
        if self._opponent is None:
            self.board = turned(self.board)
        return seen(self.board), float(result), ended, False, {}

    def action_masks(self) -> NDArray[np.bool_]:
        """`[9]`, the free squares."""
        return np.array(self.board) == 0

    def get_state(self) -> Board:
        """The board; what the opponent draws is no part of it."""
        return self.board

    def set_state(self, state: Board) -> None:
        """Put the game where `get_state` was called."""
        self.board = state

    def _answer(self, opponent: Opponent) -> None:
        self.board = turned(placed(turned(self.board), opponent(turned(self.board), self.np_random)))


def seen(board: Board) -> NDArray[np.float32]:
    """`[18]`, what the one to move sees."""
    squares = np.array(board)
    return np.concatenate([squares == 1, squares == -1]).astype(np.float32)


def alone(network: PolicyValue) -> Opponent:
    """The network's likeliest free square."""

    def choose(board: Board, rng: np.random.Generator) -> int:
        with torch.no_grad():
            found = network.chances(torch.from_numpy(seen(board)[None]))[0].numpy()
        return max(legal(board), key=lambda square: found[square])

    return choose


def searching(network: PolicyValue, simulations: int) -> Opponent:
    """A search for both sides from where the game is. Nothing in it is drawn: it always answers a board alike."""
    model = TicTacToe(None)
    model.reset(seed=0)

    @cache
    def choose(board: Board) -> int:
        model.set_state(board)
        rng = np.random.default_rng(0)
        guided = Seen(network, seen(board))
        return search_environment(
            model, generator=rng, simulations=simulations, horizon=9, discount=-1.0, seen=guided
        ).action

    return lambda board, rng: choose(board)


def play(player: Opponent, opponent: Opponent, *, begins: str, games: int, seed: int) -> dict[str, int]:
    """Wins, draws and losses of `player`."""
    env = TicTacToe(opponent, begins=begins)
    rng = np.random.default_rng([seed, 1])
    results = []
    for game in range(games):
        env.reset(seed=seed * 100_000 + game)
        ended = False
        while not ended:
            _, reward, ended, _, _ = env.step(player(env.board, rng))
        results.append(reward)
    return {name: results.count(value) for name, value in (("wins", 1.0), ("draws", 0.0), ("losses", -1.0))}


def lines(player: Opponent, board: Board = (0,) * 9, *, moves: bool) -> tuple[int, int]:
    """How many games there are against all that an opponent could do, and how many of them are lost.

    Args:
        player: Draws nothing.
        board: Where the game is, seen by the one to move.
        moves: Whether `player` is to move.
    """
    if winner(board) or not legal(board):
        return 1, int(winner(board) == (-1 if moves else 1))
    squares = [player(board, np.random.default_rng(0))] if moves else legal(board)
    found = [lines(player, turned(placed(board, square)), moves=not moves) for square in squares]
    return sum(games for games, _ in found), sum(lost for _, lost in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/examples/tictactoe"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--decisions", type=int, default=3000, help="of the search, in each round")
    parser.add_argument("--steps", type=int, default=3000, help="of the optimiser, in each round")
    parser.add_argument("--simulations", type=int, default=50)
    parser.add_argument("--games", type=int, default=500, help="against the perfect player, from each side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    found = distill_environment(
        lambda: TicTacToe(None),
        out_dir=arguments.out,
        search={"simulations": arguments.simulations, "horizon": 9, "root_noise": 0.25},
        options=DistillationOptions(
            rounds=arguments.rounds,
            decisions=arguments.decisions,
            steps=arguments.steps,
            value="return",
            discount=-1.0,  # two players take turns
            student_share=0.0,
            random_share=0.5,
        ),
        seed=arguments.seed,
        progress=report,
    )
    network = found.agent.guide
    table: dict[str, Any] = {}
    for name, player in (("network", alone(network)), ("search", searching(network, arguments.simulations))):
        sides = {
            begins: play(player, perfect, begins=begins, games=arguments.games, seed=arguments.seed)
            for begins in ("agent", "opponent")
        }
        losses = sum(side["losses"] for side in sides.values())
        games, lost = (
            sum(parts) for parts in zip(*(lines(player, moves=moves) for moves in (True, False)), strict=True)
        )
        table[name] = {
            "mean": 1 - losses / (2 * arguments.games),
            "losses": losses,
            "sides": sides,
            "lines": games,
            "lines_lost": lost,
        }
        print(f"{name}: {losses} losses in {2 * arguments.games} games against the perfect player; {sides}")
        print(f"{name}: {lost} of the {games} games are lost that there are against any moves")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


def report(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
    """A line when a round's network has learned."""
    if step == steps and scalars:
        print(f"{stage}: " + ", ".join(f"{name} {value:.2f}" for name, value in scalars.items()))


if __name__ == "__main__":
    main()
