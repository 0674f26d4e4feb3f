"""Random numbers of a batch of dreams, each row from a stream of its own.

A number is a pure function of the episode's key, the step, the place of the draw within the step and the column: Philox
is a counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), so its counter says
where in the stream we are and a snapshot needs no generator state. A row's numbers do not depend on the other rows.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError

# Part of every stream's definition: another value makes other dreams of the same seed.
BLOCK_STEPS = 64

Kind = Literal["uniform", "normal"]
_KINDS: dict[Kind, int] = {"uniform": 0, "normal": 1}
_STEP_PHASE, _START_PHASE = 0, 2


class _Slot:
    """Numbers of one draw within the step, for all rows and `BLOCK_STEPS` steps ahead."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        self.numbers = torch.empty(rows * BLOCK_STEPS, columns, device=device)
        self.block = np.full(rows, -1, np.int64)

    def by_row(self) -> Tensor:
        return self.numbers.view(len(self.block), BLOCK_STEPS, -1)


class EpisodeNoise:
    """The `Noise` of N dreams.

    `begin_episodes` names the rows whose episode starts, and the draws that follow belong to their start; after
    `begin_step` the draws belong to all rows, each at its own step; `end_step` moves rows on to their next step.

    Attributes:
        keys: `[N]` uint64, what an episode's numbers are made from.
        steps: `[N]` int64, steps since the row's episode started.
    """

    def __init__(self, rows: int, *, device: torch.device | str = "cpu") -> None:
        self.keys: NDArray[np.uint64] = np.zeros(rows, np.uint64)
        self.steps: NDArray[np.int64] = np.zeros(rows, np.int64)
        self._device = torch.device(device)
        self._offsets = np.arange(rows, dtype=np.int64) * BLOCK_STEPS
        self._slots: dict[tuple[int, Kind, int], _Slot] = {}
        self._starting: NDArray[np.int64] | None = None
        self._block = np.zeros(rows, np.int64)
        self._index = torch.zeros(rows, dtype=torch.int64)
        self._draws = 0
        self._philox = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._philox)
        self._counter = np.zeros(4, np.uint64)
        self._key = np.zeros(2, np.uint64)
        self._philox_state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter, "key": self._key},
            "buffer": np.zeros(4, np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }

    def begin_episodes(self, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        """Start episodes of keys `keys` `[R]` in `rows` `[R]`; the next draws are `[R, columns]`, for their start."""
        self.keys[rows] = keys
        self.steps[rows] = 0
        for slot in self._slots.values():
            slot.block[rows] = -1
        self._starting = rows
        self._draws = 0

    def begin_step(self) -> None:
        """The next draws are `[N, columns]`, each row at its own step."""
        self._starting = None
        self._draws = 0
        self._block, position = np.divmod(self.steps, BLOCK_STEPS)
        self._index = torch.from_numpy(self._offsets + position).to(self._device)

    def end_step(self, active: NDArray[np.bool_] | None = None) -> None:
        """Move the rows of `active` `[N]` (None: all) to their next step; the others will draw the same again."""
        if active is None:
            self.steps += 1
        else:
            self.steps += active

    def restore(self, keys: NDArray[np.uint64], steps: NDArray[np.int64]) -> None:
        """Put every row at step `steps` `[N]` of the episode of key `keys` `[N]`."""
        self.keys[:] = keys
        self.steps[:] = steps
        self._slots.clear()

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""
        return self._draw("uniform", rows, columns)

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""
        return self._draw("normal", rows, columns)

    def _draw(self, kind: Kind, rows: int, columns: int) -> Tensor:
        expected = len(self.keys) if self._starting is None else len(self._starting)
        if rows != expected:
            raise ConfigurationError(f"the memory model asked for noise of {rows} rows in a batch of {expected}")
        draw = self._draws
        self._draws += 1
        if self._starting is not None:
            numbers = np.empty((rows, columns), np.float32)
            for place, row in enumerate(self._starting.tolist()):
                self._fill(numbers[place], kind, row, 0, draw, _START_PHASE)
            return torch.from_numpy(numbers).to(self._device)
        slot = self._slots.get((draw, kind, columns))
        if slot is None:
            slot = self._slots[(draw, kind, columns)] = _Slot(len(self.keys), columns, self._device)
        stale = np.flatnonzero(slot.block != self._block)
        if stale.size:
            self._refill(slot, kind, columns, draw, stale)
        return slot.numbers.index_select(0, self._index)

    def _refill(self, slot: _Slot, kind: Kind, columns: int, draw: int, rows: NDArray[np.int64]) -> None:
        on_cpu = self._device.type == "cpu"
        target = slot.by_row().numpy() if on_cpu else np.empty((len(rows), BLOCK_STEPS, columns), np.float32)
        for place, (row, block) in enumerate(zip(rows.tolist(), self._block[rows].tolist(), strict=True)):
            self._fill(target[row if on_cpu else place], kind, row, block, draw, _STEP_PHASE)
        if not on_cpu:
            slot.by_row()[torch.from_numpy(rows).to(self._device)] = torch.from_numpy(target).to(self._device)
        slot.block[rows] = self._block[rows]

    def _fill(self, out: NDArray[np.float32], kind: Kind, row: int, block: int, draw: int, phase: int) -> None:
        self._key[0] = self.keys[row]
        self._counter[1] = block
        self._counter[2] = draw
        self._counter[3] = phase + _KINDS[kind]
        self._philox.state = self._philox_state
        if kind == "normal":
            self._generator.standard_normal(out=out, dtype=np.float32)
        else:
            self._generator.random(out=out, dtype=np.float32)
