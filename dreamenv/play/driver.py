"""Who acts: the human at the wheel or the agent."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.agents.base import Agent, observation_kind
from dreamenv.play.controls import Hands, KeyMap
from dreamenv.world_model import WorldModel

HUMAN, AGENT = "human", "agent"


class Driver:
    """Actions for memory states, from whoever is at the wheel; one episode, or several side by side.

    Attributes:
        wheel: "human" or "agent".
        hands: What the human does.
        keys: What keys and sticks mean in the model's action space.
    """

    def __init__(self, model: WorldModel, agent: Agent, *, wheel: str = HUMAN) -> None:
        self.wheel = wheel
        self.hands = Hands()
        self.keys = KeyMap(model.action_space, model.real.controls)
        self._model = model
        self._agent = agent
        self._kind = observation_kind(agent, model)
        self._begin = np.ones(1, np.bool_)
        self._state: Any = None

    def begin(self, rows: int = 1) -> None:
        """An episode begins in each of `rows`."""
        self._begin = np.ones(rows, np.bool_)
        self._state = None

    def hand_over(self, wheel: str) -> None:
        """Let the other one drive; an agent with a memory of its own begins without one."""
        if wheel != self.wheel:
            self.wheel = wheel
            self.begin(len(self._begin))

    def beside(self) -> Driver:
        """A driver of other episodes, with the same agent; the wheel and the hands are its own."""
        other = Driver(self._model, self._agent, wheel=self.wheel)
        other.hands = self.hands
        return other

    def actions(self, state: Any) -> NDArray[Any]:
        """Actions `[B, A]` or `[B]` in memory states of batch B.

        Raises:
            NonFiniteError: The agent is given numbers that are not finite.
        """
        if self.wheel == HUMAN:
            action = np.asarray(self.keys.action(self.hands))
            return np.repeat(action[None], len(state[0]), axis=0)
        seen = self._model.observation(state, self._kind).detach().cpu().numpy()
        actions, self._state = self._agent.predict(seen, self._state, self._begin, True)
        self._begin = np.zeros_like(self._begin)
        return np.asarray(actions)
