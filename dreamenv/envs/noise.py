"""Random numbers of a batch of dreams, each row from a stream of its own.

A number is a pure function of the episode's key, the step, the place of the draw within the step and the column, so
that a snapshot needs no generator state and a row's numbers do not depend on the other rows. The function is the
output of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), whose state is a
counter and can therefore begin anywhere, used twice: of key and step, and of that and the place.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError

# Few rows are drawn for many steps at once, so that a call costs little more than a look-up.
_BLOCK_ROWS = 8
BLOCK_STEPS = 64
# Pairs of columns that a draw may have at most.
_MOST_PAIRS = 2**16

Kind = Literal["uniform", "normal"]


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def _mix(numbers: Tensor) -> Tensor:
    """SplitMix64's output of its state, in place; int64 stands for the uint64 that torch cannot calculate with."""
    for shift, factor in ((30, _FIRST), (27, _SECOND), (31, None)):
        # a shift of a negative number draws ones in, which the mask takes out
        numbers.bitwise_xor_(numbers.bitwise_right_shift(shift).bitwise_and_((1 << (64 - shift)) - 1))
        if factor is not None:
            numbers.mul_(factor)
    return numbers


class EpisodeNoise:
    """The `Noise` of N dreams.

    `begin_episodes` names the rows whose episode starts, and the draws that follow belong to their start; after
    `begin_step` the draws belong to all rows, each at its own step; `end_step` moves rows on to their next step.

    Attributes:
        keys: `[N]` uint64, what an episode's numbers are made from.
        steps: `[N]` int64, steps since the row's episode started.
    """

    def __init__(self, rows: int, *, device: torch.device | str = "cpu", compiled: bool = False) -> None:
        self.keys: NDArray[np.uint64] = np.zeros(rows, np.uint64)
        self.steps: NDArray[np.int64] = np.zeros(rows, np.int64)
        self._device = torch.device(device)
        self._starting: NDArray[np.int64] | None = None
        self._draws = 0
        self._places: dict[tuple[int, int], Tensor] = {}
        # Of few rows: numbers of `BLOCK_STEPS` steps from `_block` on, a tensor a step
        self._ahead: dict[tuple[int, Kind, int], tuple[Tensor, ...]] = {}
        self._rows_ahead: dict[tuple[int, Kind, int], NDArray[np.float32]] = {}
        self._block: NDArray[np.int64] | None = None
        self._at = torch.zeros(rows, dtype=torch.int64, device=self._device)
        self._make = torch.compile(_numbers, dynamic=False) if compiled and rows > _BLOCK_ROWS else _numbers

    def begin_episodes(self, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        """Start episodes of keys `keys` `[R]` in `rows` `[R]`; the next draws are `[R, columns]`, for their start."""
        self.keys[rows] = keys
        self.steps[rows] = 0
        self._block = None
        self._starting = rows
        self._draws = 0
        self._at = self._hash(self.keys[rows], np.zeros(len(rows), np.int64))

    def begin_step(self) -> None:
        """The next draws are `[N, columns]`, each row at its own step."""
        self._starting = None
        self._draws = 0
        if len(self.keys) > _BLOCK_ROWS:
            self._at = self._hash(self.keys, self.steps + 1)
            return
        if self._block is None or not self._within_block():
            self._block = self.steps.copy()
            self._ahead.clear()
            self._rows_ahead.clear()
            steps = self.steps[:, None] + np.arange(1, BLOCK_STEPS + 1)
            self._at = self._hash(np.repeat(self.keys, BLOCK_STEPS), steps.ravel())

    def _within_block(self) -> bool:
        assert self._block is not None
        if len(self.steps) == 1:
            return bool(self.steps[0] - self._block[0] < BLOCK_STEPS)
        return bool((self.steps - self._block < BLOCK_STEPS).all())

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
        self._block = None

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""
        return self._draw("uniform", rows, columns)

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""
        return self._draw("normal", rows, columns)

    def row(self, kind: Kind, columns: int) -> NDArray[np.float32]:
        """`[columns]` float32 of a single row within a step: what `uniform` or `normal` would give; to be read only."""
        ahead = self._rows_ahead.get((self._draws, kind, columns))
        if ahead is None:
            numbers = self._numbers(kind, columns, self._draws).contiguous().numpy()
            ahead = self._rows_ahead[(self._draws, kind, columns)] = numbers
        assert self._block is not None
        self._draws += 1
        numbers_now: NDArray[np.float32] = ahead[self.steps[0] - self._block[0]]
        return numbers_now

    def _draw(self, kind: Kind, rows: int, columns: int) -> Tensor:
        expected = len(self.keys) if self._starting is None else len(self._starting)
        if rows != expected:
            raise ConfigurationError(f"the memory model asked for noise of {rows} rows in a batch of {expected}")
        draw = self._draws
        self._draws += 1
        if self._starting is not None or rows > _BLOCK_ROWS:
            return self._numbers(kind, columns, draw)
        ahead = self._ahead.get((draw, kind, columns))
        if ahead is None:
            numbers = self._numbers(kind, columns, draw).view(rows, BLOCK_STEPS, -1)
            ahead = self._ahead[(draw, kind, columns)] = numbers.unbind(1)
        assert self._block is not None
        offsets = (self.steps - self._block).tolist()
        if offsets.count(offsets[0]) == rows:
            return ahead[offsets[0]]
        return torch.stack([ahead[offset][row] for row, offset in enumerate(offsets)])

    def _hash(self, keys: NDArray[np.uint64], steps: NDArray[np.int64]) -> Tensor:
        counter = torch.from_numpy(steps).to(self._device).mul(_GOLDEN)
        return _mix(counter.add_(torch.from_numpy(keys.view(np.int64)).to(self._device)))

    def _numbers(self, kind: Kind, columns: int, draw: int) -> Tensor:
        """`[R, columns]` for each of the hashed keys and steps `[R]`."""
        pairs = -(-columns // 2)
        places = self._places.get((draw, pairs))
        if places is None:
            if pairs > _MOST_PAIRS:
                raise ConfigurationError(f"a draw of {columns} columns; the noise has {2 * _MOST_PAIRS} at most")
            counter = draw * _MOST_PAIRS + torch.arange(1, pairs + 1, device=self._device)
            places = self._places[(draw, pairs)] = counter * _GOLDEN
        # Episodes start in any number of rows, each of which would be compiled on its own
        make = self._make if self._starting is None else _numbers
        return make(self._at, places, kind, columns)


def _numbers(at: Tensor, places: Tensor, kind: Kind, columns: int) -> Tensor:
    """`[R, columns]` from hashes `at` `[R]` and what is added to them for each pair of columns."""
    mixed = _mix(at.unsqueeze(1) + places)
    # 24 bits of either half: as many as a float32 in [0, 1) can hold
    first = mixed.bitwise_right_shift(40).bitwise_and_(2**24 - 1).float()
    second = mixed.bitwise_and_(2**24 - 1).float()
    if kind == "uniform":
        return torch.cat([first, second], 1).mul_(2.0**-24)[:, :columns]
    # Box & Muller 1958; the logarithm's argument is in (0, 1]
    radius = first.add_(1.0).mul_(2.0**-24).log_().mul_(-2.0).sqrt_()
    angle = second.mul_(2.0 * math.pi * 2.0**-24)
    return torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], 1)[:, :columns]
