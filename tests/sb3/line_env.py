"""A walk on a line, and a replay buffer whose contents are known."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.sb3 import MixedReplayBuffer

PLACES = spaces.Box(-100, 100, (1,), np.float32)
MOVES = spaces.Box(-2, 2, (1,), np.float32)


class Line(gym.Env[NDArray[np.float32], Any]):
    """x' = x + a, a reward of -x'², an end beyond 3; begins at a whole number from -1 to 1."""

    observation_space = PLACES
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 7}
    taken: ClassVar[list[float]] = []  # actions of all of them, in the order in which they were taken

    def __init__(self, *, discrete: bool = False, paid: float = 1.0, render_mode: str | None = None) -> None:
        self.render_mode, self.paid = render_mode, paid
        self.action_space = spaces.Discrete(3) if discrete else MOVES
        self.discrete = discrete

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.x = float(self.np_random.integers(-1, 2))
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        move = float(action) - 1 if self.discrete else float(action[0])
        self.taken.append(move)
        self.x += move
        return np.array([self.x], np.float32), -(self.x**2) * self.paid, abs(self.x) > 3, False, {}


class Seen(gym.ObservationWrapper[NDArray[np.uint8], Any, NDArray[np.float32]]):
    """The line as a picture."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.zeros((64, 64, 3), np.uint8)


gym.register("Line-v0", Line, max_episode_steps=8)
gym.register("LineSeen-v0", lambda **settings: Seen(Line(**settings)), max_episode_steps=8)


def filled(count: int, *, n_envs: int = 2, **options: Any) -> MixedReplayBuffer:
    """A buffer of `count` real steps of each environment; observation i of environment e is 10 i + e."""
    buffer = MixedReplayBuffer(n_envs * 100, PLACES, MOVES, "cpu", n_envs, seed=0, **options)
    for i in range(count):
        x = 10.0 * i + np.arange(n_envs)[:, None]
        over = np.full(n_envs, i % 3 == 2)
        infos = [{"TimeLimit.truncated": bool(i == 2 and e == 1)} for e in range(n_envs)]
        buffer.add(x, x + 1, x / 1000, np.arange(n_envs) + i, over, infos)
    return buffer
