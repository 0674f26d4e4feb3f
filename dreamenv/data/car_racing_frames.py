"""CarRacing without the pictures that nobody looks at.

CarRacing draws a picture of 1000 x 800 pixels in every step, which takes some 99% of the step's time; with an action
repeat of 4, three of four are thrown away. The pictures do not act on the physics, so that leaving them out changes no
observation, reward or end (a test compares them bit by bit).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit

from dreamenv.data.changed_picture import ChangedPicture
from dreamenv.data.unseen_frames import UnseenFrames

# They hand an observation on as it is
_TRANSPARENT = (OrderEnforcing, PassiveEnvChecker, TimeLimit)
_PICTURE = "state_pixels"


class CarRacingFrames(UnseenFrames):
    """Leaves CarRacing's `state_pixels` undrawn."""

    def __init__(self, base: Any, changes: Sequence[ChangedPicture] = ()) -> None:
        self._base, self._changes = base, changes

    @classmethod
    def of(cls, env: gym.Env[Any, Any]) -> CarRacingFrames | None:
        changes: list[ChangedPicture] = []
        while isinstance(env, gym.Wrapper):
            if isinstance(env, ChangedPicture):
                changes.insert(0, env)
            elif not isinstance(env, _TRANSPARENT):
                return None
            env = env.env
        try:
            from gymnasium.envs.box2d.car_racing import CarRacing
        except ImportError:  # the module itself raises it where Box2D is missing
            return None
        return cls(env, changes) if type(env) is CarRacing and "_render" in vars(CarRacing) else None

    @contextmanager
    def undrawn(self) -> Iterator[None]:
        base = self._base
        draw = base._render

        def skip(mode: str) -> Any:
            return base.state.copy() if mode == _PICTURE else draw(mode)

        base._render = skip
        try:
            yield
        finally:
            del base._render  # the class's own is seen again

    def draw(self) -> Any:
        base = self._base
        base.state = base._render(_PICTURE)
        picture = base.state
        for change in self._changes:
            picture = change.observation(picture)
        return picture
