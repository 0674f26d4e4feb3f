"""Sokoban in small rooms, learned by PPO with imagination, without it, and with imagination in a bad model.

A box that is pushed against a wall may never come off it again, so a player should look ahead. An ensemble learns the
game from a learner's play, and `ImaginationAugmented` dreams in it before each action (I2A, Weber et al. 2017). Three
learners share network and settings, and a first part without imagination. Behind it "i2a" fits an ensemble to its play
so far, and fits it on before each further part; "bad_model" fits one to a few episodes, once; "without" goes on without
imagination. A model costs no real frames but those that its learner plays. The score is the share of rooms that a
learner solves; these rooms occur in no training.

The same command goes on with the learners that FILE has no row of.

Takes: about two hours on one core with the defaults.

python examples/13_i2a_sokoban.py [--frames N] [--methods NAME ...] [--seed S] [--json FILE]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import TransformReward
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from dreamenv import LatentObservation, WorldModel
from dreamenv.sb3 import ImaginationAugmented, ImitateInImagination
from dreamenv.scoring.score import bootstrap_interval
from dreamenv.training.recipes.fit_ensemble import EnsembleFitOptions, ensemble_world_model, fit_ensemble
from dreamenv.training.transitions import Transitions

SIZE = 7
MOVES = (-SIZE, 1, SIZE, -1)  # up, right, down, left
INSIDE = tuple(SIZE * row + column for row in range(1, SIZE - 1) for column in range(1, SIZE - 1))
BORDER = frozenset(range(SIZE * SIZE)) - set(INSIDE)
METHODS = ("i2a", "without", "bad_model")


class Room(NamedTuple):
    """A position of the game; squares are numbered row by row."""

    walls: frozenset[int]
    goals: frozenset[int]
    boxes: frozenset[int]
    player: int

    @property
    def held_out(self) -> bool:
        """Whether no learner may train in this room: one in eight is so, by its layout alone."""
        return crc32(picture(self).tobytes()) % 8 == 0


def picture(room: Room) -> NDArray[np.float32]:
    """`[125]`, five planes of the 25 squares inside: walls, goals, boxes, boxes on goals, and the player."""
    walls, goals, boxes, player = room
    planes = (walls, goals, boxes, boxes & goals, {player})
    return np.array([square in plane for plane in planes for square in INSIDE], np.float32)


def undone_room(rng: np.random.Generator, *, walls: int, boxes: int, pulls: int) -> tuple[Room, list[int]] | None:
    """A room from reverse play, and actions that solve it: every box begins on a goal and is pulled away.

    None where a box stays on a goal, or boxes cannot be pulled so often.
    """
    drawn = [INSIDE[place] for place in rng.permutation(len(INSIDE))]
    stone = BORDER | set(drawn[:walls])
    goals = frozenset(drawn[walls : walls + boxes])
    standing, player = set(goals), drawn[walls + boxes]
    solution: list[int] = []
    for move, lets_go in zip(rng.integers(4, size=20 * pulls).tolist(), rng.random(20 * pulls).tolist(), strict=True):
        ahead, behind = player + MOVES[move], player - MOVES[move]
        if ahead in stone or ahead in standing:
            continue
        if behind in standing and lets_go > 0.2:
            standing.remove(behind)
            standing.add(player)
            pulls -= 1
        player = ahead
        # Where all boxes are on goals the game has ended
        solution = [] if standing == goals else [*solution, (move + 2) % 4]
        if pulls == 0:
            break
    if pulls or standing & goals:
        return None
    return Room(stone, goals, frozenset(standing), player), solution[::-1]


class Sokoban(gym.Env[NDArray[np.float32], np.int64]):
    """Push every box onto a goal. Boxes cannot be pulled, so that mistakes last.

    Observations are the planes of `picture`; actions go up, right, down or left. Each action costs 0.1; a box that
    comes onto a goal pays 1, one that leaves it costs 1, and the last one pays 10 more and ends the task (Weber et al.
    2017). Rooms are drawn by reverse play, so that all of them can be solved.

    Args:
        held_out: Rooms that learners do not train in, in place of all others.
        walls: Squares of stone inside.
        boxes: Boxes, and goals.
        pulls: How often reverse play pulls a box away from the goals, so that about as many pushes solve a room.
    """

    def __init__(self, *, held_out: bool = False, walls: int = 3, boxes: int = 1, pulls: int = 6) -> None:
        self.observation_space = spaces.Box(0, 1, (5 * len(INSIDE),), np.float32)
        self.action_space = spaces.Discrete(4)
        self.solution: list[int] = []
        self._held_out, self._size = held_out, {"walls": walls, "boxes": boxes, "pulls": pulls}
        self._room = Room(BORDER, frozenset(), frozenset(), INSIDE[0])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A new room; `solution` holds actions that solve it, not always the fewest."""
        super().reset(seed=seed)
        while True:
            wanted = self._size | {"pulls": int(self.np_random.integers(self._size["boxes"], self._size["pulls"] + 1))}
            found = undone_room(self.np_random, **wanted)
            if found is not None and found[0].held_out == self._held_out:
                self._room, self.solution = found
                return picture(self._room), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Go one square, and push the box that is there; nothing moves where something is in the way."""
        walls, goals, boxes, player = self._room
        ahead = player + MOVES[int(action)]
        beyond = ahead + MOVES[int(action)]
        reward = -0.1
        if ahead in boxes and beyond not in walls | boxes:
            reward += float(beyond in goals) - float(ahead in goals)
            boxes = boxes - {ahead} | {beyond}
        if ahead not in walls | boxes:
            player = ahead
        self._room = Room(walls, goals, boxes, player)
        solved = boxes == goals
        return picture(self._room), reward + 10.0 * solved, solved, False, {}


def real_env(*, held_out: bool = False) -> gym.Env[Any, Any]:
    """The game with its time limit."""
    spec = EnvSpec("SmallSokoban-v0", entry_point=Sokoban, max_episode_steps=40)
    return gym.make(spec, held_out=held_out, disable_env_checker=True)


class Recorded(gym.Wrapper[Any, Any, Any, Any]):
    """Adds each episode to `episodes` as it ends, a row for each step: the fields of `Transitions`."""

    def __init__(self, env: gym.Env[Any, Any], episodes: list[list[tuple[Any, ...]]]) -> None:
        super().__init__(env)
        self._episodes = episodes
        self._rows: list[tuple[Any, ...]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._rows = []
        self._seen, info = self.env.reset(seed=seed, options=options)
        return self._seen, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        following, reward, terminated, truncated, info = self.env.step(action)
        self._rows.append((self._seen, int(action), following, reward, terminated))
        self._seen = following
        if terminated or truncated:
            self._episodes.append(self._rows)
        return following, reward, terminated, truncated, info


def new_model(options: argparse.Namespace) -> WorldModel:
    """An ensemble of one member, which dreams in its mode: the game draws nothing at random."""
    sizes = {"members": 1, "elites": 1, "hidden_size": options.model_width, "layers": 3, "propagation": "episode"}
    model = ensemble_world_model(real_env(), seed=options.seed, **sizes)
    memory: Any = model.memory
    # One variance for all: squares that never change would drive theirs to nothing, and their loss would drown the rest
    for bound in (memory.networks.smallest_log_variance, memory.networks.largest_log_variance):
        bound.requires_grad_(False).zero_()
    return model


def fit(model: WorldModel, play: list[list[tuple[Any, ...]]], epochs: int, options: argparse.Namespace) -> None:
    """Fit a model to all steps of these episodes, from the weights it has."""
    settings = EnsembleFitOptions(held_out=0.1, batch_size=128, weight_decay=0.0, patience=8, max_epochs=epochs)
    memory: Any = model.memory
    columns = zip(*(row for episode in play for row in episode), strict=True)
    kinds = (np.float32, np.int64, np.float32, np.float32, np.bool_)
    transitions = Transitions(*(np.array(part, kind) for part, kind in zip(columns, kinds, strict=True)))
    found = fit_ensemble(memory, transitions, settings, seed=options.seed)
    print(f"model: {len(transitions):,} real steps, {found.epochs} epochs")


@torch.no_grad()
def foresight(model: WorldModel, steps: int, rooms: int, seed: int) -> dict[str, float]:
    """How well a model dreams `steps` random actions in held-out rooms: shares of right pictures, and reward error."""
    env: Any = real_env(held_out=True)
    rng = np.random.default_rng([seed, 1])
    right, missed = [], []
    for room in range(rooms):
        observation, _ = env.reset(seed=seed * 100_000 + room)
        noise = torch.Generator().manual_seed(room)
        state = model.begin(observation[None], noise=noise)
        ended = False
        for _ in range(steps):
            action = int(rng.integers(4))
            state, said = model.memory.imagine(state, torch.tensor([action]), noise=noise, temperature=0.0)
            observation, reward, ended, _, _ = env.step(action)
            missed.append(abs(float(said.reward) - reward))
            if ended:
                break
        if not ended:
            right.append(bool((np.round(model.memory.latent(state)[0].numpy()) == observation).all()))
    return {"right_pictures": float(np.mean(right)), "reward_error": float(np.mean(missed))}


def solved(learner: PPO, model: WorldModel, rooms: int, seed: int) -> list[bool]:
    """Which of the held-out rooms a learner solves, acting as it explores: the likeliest action may go to and fro."""
    envs = [LatentObservation(real_env(held_out=True), model, observation="state") for _ in range(rooms)]
    seen = np.stack([env.reset(seed=seed * 100_000 + room)[0] for room, env in enumerate(envs)])
    rng = np.random.default_rng([seed, 2])
    found, playing = np.zeros(rooms, np.bool_), np.arange(rooms)
    while len(playing):
        with torch.no_grad():
            chances = learner.policy.get_distribution(torch.from_numpy(seen[playing])).distribution.probs  # type: ignore[union-attr]
        actions = (chances.cumsum(1).numpy() < rng.random((len(playing), 1))).sum(1).clip(max=3)
        going_on = []
        for room, action in zip(playing.tolist(), actions.tolist(), strict=True):
            seen[room], _, found[room], truncated, _ = envs[room].step(action)
            if not (found[room] or truncated):
                going_on.append(room)
        playing = np.array(going_on, np.int64)
    return found.tolist()


def paid(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """What learners are paid is a tenth of the reward."""
    return TransformReward(env, lambda reward: 0.1 * float(reward))


def ppo(make: Callable[[], gym.Env[Any, Any]], options: argparse.Namespace, policy: dict[str, Any]) -> PPO:
    """All learners have these settings."""
    return PPO(
        "MlpPolicy",
        DummyVecEnv([make] * options.envs),
        learning_rate=7e-4,
        n_steps=32,
        batch_size=min(128, 32 * options.envs),
        n_epochs=4,
        gamma=0.97,
        ent_coef=0.01,
        policy_kwargs=policy,
        seed=options.seed,
        device="cpu",
    )


def new_learner(
    model: WorldModel, play: list[list[tuple[Any, ...]]], options: argparse.Namespace, *, imagine: bool
) -> PPO:
    """A learner whose episodes are added to `play`."""

    def seen() -> gym.Env[Any, Any]:
        return LatentObservation(paid(Recorded(real_env(), play)), model, observation="state")

    extractor = {"world_model": model, "steps": options.steps, "hidden_size": 32, "width": 256, "imagine": imagine}
    policy = {
        "features_extractor_class": ImaginationAugmented,
        "features_extractor_kwargs": extractor,
        "net_arch": [128],
    }
    return ppo(seen, options, policy)


def imagining(learner: PPO, model: WorldModel, play: list[list[tuple[Any, ...]]], options: argparse.Namespace) -> PPO:
    """A learner that goes on from where this one is, with imagination."""
    found = new_learner(model, play, options, imagine=True)
    found.set_parameters(learner.get_parameters())
    found.num_timesteps = learner.num_timesteps
    return found


def learn(method: str, options: argparse.Namespace) -> dict[str, Any]:
    """A row of the table."""
    began = time.perf_counter()
    curve: list[dict[str, float]] = []
    play: list[list[tuple[Any, ...]]] = []
    model = new_model(options)
    learner, callback = new_learner(model, play, options, imagine=False), None
    for part in range(options.parts):
        if part == 1 and method != "without":
            fit(model, play if method == "i2a" else play[: options.bad_episodes], options.epochs, options)
            learner, callback = imagining(learner, model, play, options), ImitateInImagination(batch_size=128)
        elif part > 1 and method == "i2a":
            fit(model, play, options.further_epochs, options)
        learner.learn(options.frames // options.parts, callback=callback, reset_num_timesteps=False)
        rooms = options.rooms if part == options.parts - 1 else max(options.rooms // 4, 1)
        shares = solved(learner, model, rooms, options.seed)
        point = {"real_frames": learner.num_timesteps, "mean": 100 * float(np.mean(shares))}
        curve.append(point)
        print(f"{method}: {point['real_frames']:,} real frames, {point['mean']:.1f}% of held-out rooms solved")
    interval = [100 * bound for bound in bootstrap_interval([float(share) for share in shares])]
    minutes = (time.perf_counter() - began) / 60
    row = curve[-1] | {"ci95": interval, "rooms": options.rooms, "minutes": minutes, "curve": curve}
    return row if method == "without" else row | foresight(model, options.steps, options.rooms, options.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300_000, help="real frames of each learner")
    parser.add_argument("--bad-episodes", type=int, default=50, help="all that the bad model sees")
    parser.add_argument("--model-width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=40, help="of a model's first fit, at most")
    parser.add_argument("--further-epochs", type=int, default=10, help="of each fit to all play after that")
    parser.add_argument("--steps", type=int, default=5, help="of a rollout")
    parser.add_argument("--envs", type=int, default=16, help="games that a learner plays at once")
    parser.add_argument("--parts", type=int, default=5, help="of a learner's course, with a score after each")
    parser.add_argument("--rooms", type=int, default=600, help="held out, for the last score; a quarter of them before")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("runs/examples/sokoban.json"), help="file for the results")
    options = parser.parse_args()

    torch.set_num_threads(1)
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "methods")}
    table: dict[str, Any] = {"settings": settings}
    if options.json.exists():
        table = json.loads(options.json.read_text(encoding="utf-8"))
        if table.get("settings") != settings:
            parser.error(f"{options.json} has rows of other settings; take another file")
    missing = [method for method in options.methods if method not in table]
    if not missing:
        return
    options.json.parent.mkdir(parents=True, exist_ok=True)
    for method in missing:
        table[method] = learn(method, options)
        options.json.write_text(json.dumps(table, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
