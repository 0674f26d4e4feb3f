"""Dream and real environment side by side, from the same moment on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.memory.states import merge, repeat
from dreamenv.play.latents import start_latents
from dreamenv.play.opening import Opening
from dreamenv.play.worlds import TRUNCATED, DreamWorld, Moment, RealWorld, Standing

_DREAM, _REAL = 0, 1
# A latent number that hardly varies is not to decide how far apart two moments are
_SMALLEST_SPREAD = 0.05


class RaceWorld:
    """A real episode and a dream that begins at one of its moments.

    Row 0 of `seen` and of the actions is the dream's, row 1 the real environment's: a human does the same in both, an
    agent what it thinks right where it is. One that has ended waits for the other.

    Args:
        opening: The dream.
        dream, real: What races; both are used by nobody else meanwhile.
        idle: The action that passes the time of the real environment's start margin.
    """

    def __init__(self, opening: Opening, dream: DreamWorld, real: RealWorld, idle: NDArray[Any]) -> None:
        self._margin = opening.model.real.margin_actions
        self._dream, self._real = dream, real
        self._idle = np.asarray(idle)[None]
        self._spread = start_latents(opening.model).std(0, correction=0).clamp(min=_SMALLEST_SPREAD).cpu().numpy()
        self._return_at_start = 0.0
        self._dreamed = Moment(np.empty(0, np.float32))
        self._step = 0
        self._drift = 0.0

    @property
    def state(self) -> Any:
        """M's state at the real moment, of batch 1."""
        return self._real.state

    @property
    def seen(self) -> Any:
        """M's states in the dream and at the real moment, of batch 2."""
        both = repeat(self._dream.state, 2)
        row = torch.tensor([_REAL], device=both[0].device)
        return merge(both, row, self._real.state)

    def reset(self) -> Moment:
        """Begin a real episode, and a dream where its start margin is over.

        Raises:
            CollectionError: The game died or does not answer.
        """
        self._real.reset()
        for _ in range(self._margin):
            if not self._real.moment.ended:
                self._real.step(self._idle)
        return self.begin()

    def begin(self) -> Moment:
        """Begin a dream at the present real moment, and count from here; a real episode that is over begins anew."""
        if self._real.moment.ended:
            return self.reset()
        self._dreamed = self._dream.dream_on(self._real.state)
        self._return_at_start = self._real.moment.undiscounted_return
        self._step = 0
        return self._moment(0.0)

    def step(self, actions: NDArray[Any]) -> Moment:
        """Take an action in each that goes on, `[2]` or `[2, A]`; errors as those of both."""
        going = not self._dreamed.ended, not self._real.moment.ended
        if going[_DREAM]:
            self._dreamed = self._dream.step(actions[_DREAM : _DREAM + 1])
        if going[_REAL]:
            self._real.step(actions[_REAL : _REAL + 1])
        self._step += 1
        return self._moment(self._distance() if all(going) else self._drift)

    def close(self) -> None:
        """End the real game."""
        self._real.close()

    def _moment(self, drift: float) -> Moment:
        self._drift = drift
        dreamed, real = self._dreamed, self._real.moment
        standing = Standing(
            real_return=real.undiscounted_return - self._return_at_start,
            dream_ended=dreamed.ended,
            real_ended=real.ended,
            drift=drift,
        )
        both_ended = dreamed.ended and real.ended
        return dataclasses.replace(
            dreamed, frame=real.frame, step=self._step, ended=TRUNCATED if both_ended else "", race=standing
        )

    def _distance(self) -> float:
        # Two latents drawn from the data are sqrt(2) deviations apart
        apart = (self._dreamed.latent - self._real.moment.latent) / self._spread
        return float(np.sqrt(np.square(apart).mean() / 2.0))
