"""Actors that kill the process they run in. Worker processes import this module."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from dreamenv.data.explore import Actor, uniform_action


class Mortal(Actor):
    """Uniform actions; kills its process at step `at`, `most` times in all. Each death is a file in folder `deaths`."""

    name = "mortal"

    def __init__(
        self, action_space: gym.Space[Any], rng: np.random.Generator, *, deaths: str, most: int, at: int = 3
    ) -> None:
        self._space, self._rng, self._folder = action_space, rng, Path(deaths)
        self._most, self._at, self._step = most, at, 0

    def act(self, observation: Any) -> Any:
        self._step += 1
        if self._step == self._at and len(list(self._folder.iterdir())) < self._most:
            (self._folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return uniform_action(self._space, self._rng)


class Faulty(Actor):
    """Raises an error whose class cannot be pickled back: its constructor wants two arguments."""

    name = "faulty"

    class Fault(Exception):
        """What it raises."""

        def __init__(self, what: str, where: str) -> None:
            super().__init__(f"{what} in {where}")

    def __init__(self, action_space: gym.Space[Any], rng: np.random.Generator) -> None:
        pass

    def act(self, observation: Any) -> Any:
        raise Faulty.Fault("a fault", "the actor")
