"""Nine futures of one moment, dreamed side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.envs.rollout import DreamRollout
from dreamenv.memory.states import merge, select
from dreamenv.play.driver import Driver
from dreamenv.play.opening import Opening
from dreamenv.play.step_rate import StepRate
from dreamenv.play.worlds import snapshot

FUTURES = 9


class Fan:
    """Dreams that branch off the same memory state and differ by what M draws.

    Args:
        opening: The dream.
        state: M's state at the moment, of batch 1.
        driver: Who acts in all of them.
        generator: Draws the keys of their noise.
        temperature: Of the dreams.
        horizon: Steps until they begin anew.

    Attributes:
        driver: Who acts; its `hands` are the human's.
        latents: `[9, Z]` float32; a future that has ended keeps its last.
        returns: `[9]` float64 since the moment.
        alive: `[9]` bool, False where the future has terminated.
        step: Steps since the moment.
        step_rate: Of all nine together, which step at once.
        temperature: May be changed at any time.
    """

    def __init__(
        self,
        opening: Opening,
        state: Any,
        driver: Driver,
        generator: np.random.Generator,
        *,
        temperature: float,
        horizon: int,
    ) -> None:
        self._model = opening.model
        self._moment = state
        self.driver = driver
        self._generator = generator
        self._horizon = horizon
        self.step_rate = StepRate()
        self._rollout = DreamRollout(opening.model, FUTURES, observation="state", temperature=temperature)
        self.begin()

    @property
    def temperature(self) -> float:
        """Spread of M's mixtures."""
        return self._rollout.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._rollout.temperature = value

    def begin(self) -> None:
        """Go back to the moment and draw nine new futures."""
        noise = torch.Generator(self._model.device).manual_seed(int(self._generator.integers(2**63)))
        self._state = self._model.memory.branch(self._moment, FUTURES, noise=noise)
        self._rollout.set_state(snapshot(self._state, self._generator))
        self.latents: NDArray[np.float32] = self._rollout.latents()
        self.returns: NDArray[np.float64] = np.zeros(FUTURES)
        self.alive: NDArray[np.bool_] = np.ones(FUTURES, np.bool_)
        self.step = 0
        self.driver.begin(FUTURES)

    def advance(self) -> None:
        """One step of each future that has not ended; at the horizon, or when all have ended, they begin anew.

        Raises:
            NonFiniteError: A dream became NaN or infinite.
        """
        if self.step >= self._horizon or not self.alive.any():
            self.begin()
            return
        actions = self.driver.actions(self._state)
        alive = self.alive
        result = self._rollout.step(actions, alive)
        self.step += 1
        self.step_rate.count()
        fresh = self._model.memory_state(torch.from_numpy(self._rollout.observations()).to(self._model.device))
        still = torch.from_numpy(alive.nonzero()[0]).to(self._model.device)
        self._state = merge(self._state, still, select(fresh, still))
        self.latents = np.where(alive[:, None], self._rollout.latents(), self.latents)
        self.returns = self.returns + np.where(alive, result.reward, 0.0)
        self.alive = alive & ~result.terminated

    def state(self, future: int) -> Any:
        """M's state of batch 1 in one of the futures, as it is now, or was when the future ended."""
        return select(self._state, torch.tensor([future], device=self._model.device))
