"""TicTacToe with an opponent inside, and a network that learns it by searching against itself, as AlphaZero does.

Each round a tree search plays whole games on copies of the environment, whose opponent is the network of the round
before; a network learns the visits of the searches and the results of the games, and guides the next searches. In the
end the network alone, and a search with it, play a player that never errs.

Takes: about 25 minutes with the defaults.

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
from dreamenv.agents.distilled import DistilledAgent, PolicyValue
from dreamenv.agents.options import DistillationOptions
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


def aimless(board: Board, rng: np.random.Generator) -> int:
    """A free square at random."""
    return int(rng.choice(legal(board)))


class TicTacToe(gym.Env[NDArray[np.float32], np.int64]):
    """The agent's side of the game: an action takes a square, and the opponent answers within the same step.

    Observations are 18 numbers: own squares, then the opponent's. A win pays 1, a loss -1, a draw 0. An action that
    names a square that is taken takes the next free one behind it, so that games of random actions are games.

    Args:
        opponent: Answers.
        begins: Who moves first: "agent", "opponent" or "either", which is drawn.
    """

    def __init__(self, opponent: Opponent = perfect, *, begins: str = "either") -> None:
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
        if self._begins == "opponent" or (self._begins == "either" and self.np_random.random() < 0.5):
            self._answer()
        return self._seen(), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Take a square."""
        self.board = placed(self.board, square_of(self.board, int(action)))
        if not winner(self.board) and legal(self.board):
            self._answer()
        result = winner(self.board)
        return self._seen(), float(result), bool(result) or not legal(self.board), False, {}

    def get_state(self) -> Board:
        """The board; what the opponent draws is no part of it."""
        return self.board

    def set_state(self, state: Board) -> None:
        """Put the game where `get_state` was called."""
        self.board = state

    def _answer(self) -> None:
        self.board = turned(placed(turned(self.board), self._opponent(turned(self.board), self.np_random)))

    def _seen(self) -> NDArray[np.float32]:
        return seen(self.board)


def seen(board: Board) -> NDArray[np.float32]:
    """`[18]`, what the one to move sees."""
    squares = np.array(board)
    return np.concatenate([squares == 1, squares == -1]).astype(np.float32)


def chances(network: PolicyValue, board: Board) -> NDArray[np.float64]:
    """`[9]`, the network's chances of the squares; what an action would take counts for the square that it takes."""
    with torch.no_grad():
        found = network.chances(torch.from_numpy(seen(board)[None]))[0].double().numpy()
    squares = np.zeros(9)
    np.add.at(squares, [square_of(board, action) for action in range(9)], found)
    return np.asarray(squares / squares.sum())


def sampled(network: PolicyValue, *, aimlessly: float = 0.2) -> Opponent:
    """An opponent that draws its moves from the network's chances, and now and then any."""

    @cache
    def known(board: Board) -> NDArray[np.float64]:
        return chances(network, board)

    def choose(board: Board, rng: np.random.Generator) -> int:
        if rng.random() < aimlessly:
            return aimless(board, rng)
        return int(rng.choice(9, p=known(board)))

    return choose


def alone(network: PolicyValue) -> Opponent:
    """The network's likeliest free square."""
    return lambda board, rng: int(chances(network, board).argmax())


def searching(network: PolicyValue, simulations: int) -> Opponent:
    """A search from where the game is, in a game against the network itself, whose answers it draws anew each time."""
    model = TicTacToe(sampled(network, aimlessly=0.0))
    model.reset(seed=0)

    def choose(board: Board, rng: np.random.Generator) -> int:
        model.set_state(board)
        plan = search_environment(
            model,
            generator=rng,
            simulations=simulations,
            horizon=9,
            discount=1.0,
            seen=Seen(network, seen(board)),
            resample=True,
        )
        return plan.action

    return choose


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


def learned(out: Path, rounds: int, options: DistillationOptions, search: dict[str, Any], seed: int) -> DistilledAgent:
    """The network after `rounds` rounds, each against the network of the one before; the first against any moves."""
    opponent: Opponent = aimless
    for number in range(1, rounds + 1):
        # A call with one round more goes on from those that are there
        found = distill_environment(
            lambda opponent=opponent: TicTacToe(opponent),  # type: ignore[misc]
            out_dir=out,
            search=search,
            options=DistillationOptions(**vars(options) | {"rounds": number}),
            seed=seed,
        )
        print(f"round {number}: " + ", ".join(f"{name} {value:.2f}" for name, value in found.rounds[-1].items()))
        opponent = sampled(found.agent.guide)
    return found.agent


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
    options = DistillationOptions(
        decisions=arguments.decisions,
        steps=arguments.steps,
        value="return",
        discount=1.0,
        student_share=0.0,
        random_share=0.3,
    )
    search = {"simulations": arguments.simulations, "horizon": 9, "resample": True}
    network = learned(arguments.out, arguments.rounds, options, search, arguments.seed).guide
    table: dict[str, Any] = {}
    for name, player in (("network", alone(network)), ("search", searching(network, arguments.simulations))):
        sides = {
            begins: play(player, perfect, begins=begins, games=arguments.games, seed=arguments.seed)
            for begins in ("agent", "opponent")
        }
        losses = sum(side["losses"] for side in sides.values())
        table[name] = {"mean": 1 - losses / (2 * arguments.games), "losses": losses, "sides": sides}
        print(f"{name}: {losses} losses in {2 * arguments.games} games against the perfect player; {sides}")
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
