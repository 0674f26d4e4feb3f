"""Frames within an action repeat that nobody looks at: environments that need not draw them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

import gymnasium as gym

from dreamenv.kinds import Register


class UnseenFrames(ABC):
    """Switches the drawing of one environment's observations off and on.

    An implementation must change no reward, no end and no observation that is drawn.
    """

    @classmethod
    @abstractmethod
    def of(cls, env: gym.Env[Any, Any]) -> UnseenFrames | None:
        """The switch of `env`, wrappers included; None where each frame has to be drawn."""

    @abstractmethod
    def undrawn(self) -> AbstractContextManager[None]:
        """A step within it returns the last observation that was drawn instead of its own."""

    @abstractmethod
    def draw(self) -> Any:
        """The observation of the present moment."""


# By the `skip_unseen_frames` of a real environment
UNSEEN_FRAMES: Register[type[UnseenFrames]] = Register(
    "unseen_frames", {"car_racing": "dreamenv.data.car_racing_frames:CarRacingFrames"}
)
