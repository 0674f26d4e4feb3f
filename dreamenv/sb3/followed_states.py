"""M's states at the real moments that a replay buffer holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.memory.base import MemoryModel
from dreamenv.memory.states import merge, select


class FollowedStates:
    """Follows real episodes with M as they are added to a replay buffer, and keeps the state of each moment.

    Args:
        memory: M; it may be fitted further, but states that are kept already stay those of the older weights.
        rows, columns: Of the buffer: moments, and environments at once.
        noise: Draws what M draws on the way, on its device.
    """

    def __init__(self, memory: MemoryModel[Any], rows: int, columns: int, noise: torch.Generator) -> None:
        self.memory = memory
        self._noise = noise
        self._shape = rows, columns
        self._known = np.zeros(self._shape, np.bool_)
        self._kept: Any = None
        self._present: Any = None
        self._followed_by: Tensor | None = None

    @torch.no_grad()
    def add(self, row: int, before: Tensor, action: Tensor, after: Tensor, ended: NDArray[np.bool_]) -> None:
        """A real step in each environment: keep the states in which the actions were taken as row `row`.

        What was not seen after the step before begins an episode too: an environment may be reset at any time.

        Args:
            row: Of the buffer; what it held is overwritten.
            before, after: `[columns, E]`, embeddings of what was seen before and after it.
            action: `[columns, A]` or `[columns]`.
            ended: `[columns]`, whether the next step begins an episode.
        """
        fresh = self.memory.initial(before, noise=self._noise)
        if self._followed_by is None:
            state = fresh
        else:
            begins = (before != self._followed_by).any(1)
            state = merge(self._present, begins, select(fresh, begins))
        if self._kept is None:
            self._kept = type(state)(*(part.new_zeros(*self._shape, *part.shape[1:]) for part in state))
        for kept, part in zip(self._kept, state, strict=True):
            kept[row] = part
        self._known[row] = True
        self._present, _ = self.memory.observe(state, action, after, noise=self._noise)
        # NaN differs from whatever comes
        over = torch.from_numpy(ended).to(after.device).unsqueeze(1)
        self._followed_by = torch.where(over, torch.nan, after)

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns of the moments whose states are kept."""
        rows, columns = np.nonzero(self._known)
        return rows, columns

    def at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Any:
        """The states at such places, in their order."""
        return type(self._kept)(*(part[rows, columns] for part in self._kept))
