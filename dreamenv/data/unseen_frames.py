"""Frames within an action repeat that nobody looks at, and that therefore need not be drawn.

CarRacing draws a picture of 1000 x 800 pixels in every step, which takes some 99% of the step's time; with an action
repeat of 4, three of four are thrown away. The pictures do not act on the physics, so that leaving them out changes no
observation, reward or end (a test compares them bit by bit).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

# They hand an observation on as it is
_TRANSPARENT = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
_PICTURE = "state_pixels"


class UnseenFrames:
    """Switches the drawing of observations off where the environment is known to allow it; else it does nothing.

    Attributes:
        possible: Whether frames can be left undrawn.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._base = env.unwrapped
        self.possible = _draws_every_step(env)

    @contextmanager
    def undrawn(self) -> Iterator[None]:
        """A step within it returns the last observation that was drawn instead of its own."""
        base: Any = self._base
        draw = base._render

        def skip(mode: str) -> Any:
            return base.state.copy() if mode == _PICTURE else draw(mode)

        base._render = skip
        try:
            yield
        finally:
            del base._render  # the class's own is seen again

    def draw(self) -> Any:
        """The observation of the present moment."""
        base: Any = self._base
        base.state = base._render(_PICTURE)
        return base.state


def _draws_every_step(env: gym.Env[Any, Any]) -> bool:
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, _TRANSPARENT):
            return False
        env = env.env
    try:
        from gymnasium.envs.box2d.car_racing import CarRacing
    except ImportError:  # the module itself raises it where Box2D is missing
        return False
    return type(env) is CarRacing and "_render" in vars(CarRacing)
