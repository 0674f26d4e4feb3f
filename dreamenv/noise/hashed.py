"""Random numbers of dreams: a pure function of an episode's key, the step, the place of the draw in it and the column.

So a snapshot needs no generator state, a row's numbers do not depend on the other rows, and a compiled step can make
its own numbers.

The function is the output of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"),
whose state is a counter and can therefore begin anywhere, used twice: of key and step, and of that and the place.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError

Kind = Literal["uniform", "normal"]

# Pairs of columns that a draw may have at most.
_MOST_PAIRS = 2**16
# Few rows are drawn for many steps at once, so that a call costs little more than a look-up.
_BLOCK_ROWS = 8
BLOCK_STEPS = 64


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST, _SECOND = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


class HashedDraw(NamedTuple):
    """What a draw is made from.

    Attributes:
        keys: `[R]` int64, a key of each row.
        steps: `[R]` int64, the step of each row.
        places: `[P]` int64 of `draw_places`.
    """

    keys: Tensor
    steps: Tensor
    places: Tensor


@runtime_checkable
class HashedNoise(Protocol):
    """A `Noise` that can also say what a draw is made from, and leave the making to others."""

    def hashed(self, columns: int) -> HashedDraw:
        """The next draw of all rows, of so many columns; it counts as drawn."""


def hashes(keys: Tensor, steps: Tensor) -> Tensor:
    """`[R]` int64 from the keys and steps of R rows."""
    return _mix(steps * _GOLDEN + keys)


def draw_places(draw: int, columns: int, device: torch.device) -> Tensor:
    """What is added to a hash for each pair of columns of the draw number `draw` of a step.

    Raises:
        ConfigurationError: More columns than the function has numbers for.
    """
    pairs = -(-columns // 2)
    if pairs > _MOST_PAIRS:
        raise ConfigurationError(f"a draw of {columns} columns; the noise has {2 * _MOST_PAIRS} at most")
    return (draw * _MOST_PAIRS + torch.arange(1, pairs + 1, device=device)) * _GOLDEN


def hashed_bits(at: Tensor, places: Tensor) -> Tensor:
    """`[R, P]` int64 of random bits from hashes `at` `[R]` and places `[P]`, of one draw or of several side by side."""
    return _mix(at.unsqueeze(1) + places)


def numbers_of(mixed: Tensor, kind: Kind, columns: int) -> Tensor:
    """`[R, columns]` float32, uniform in [0, 1) or standard normal, from the bits `[R, P]` of one draw."""
    # 24 bits of either half: as many as a float32 in [0, 1) can hold
    first = mixed.bitwise_right_shift(40).bitwise_and_(2**24 - 1).float()
    second = mixed.bitwise_and(2**24 - 1).float()
    if kind == "uniform":
        return torch.cat([first, second], 1).mul_(2.0**-24)[:, :columns]
    # Box & Muller 1958; the logarithm's argument is in (0, 1]
    radius = first.add_(1.0).mul_(2.0**-24).log_().mul_(-2.0).sqrt_()
    angle = second.mul_(2.0 * math.pi * 2.0**-24)
    return torch.cat([radius * angle.cos(), radius.mul_(angle.sin_())], 1)[:, :columns]


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

    def __init__(self, rows: int, *, device: torch.device | str = "cpu") -> None:
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
        self._offset = 0  # of a single row's step in the block
        self._at: Tensor | None = None  # hashes of keys and steps, made when the first number is asked for
        # Of many rows: columns of a step's draws as of the step before, made together; and their bits
        self._plan: list[int] = []
        self._together: tuple[Tensor, ...] | None = None

    def begin_episodes(self, rows: NDArray[np.int64], keys: NDArray[np.uint64]) -> None:
        """Start episodes of keys `keys` `[R]` in `rows` `[R]`; the next draws are `[R, columns]`, for their start."""
        self.keys[rows] = keys
        self.steps[rows] = 0
        self._block = None
        self._starting = rows
        self._draws = 0
        self._at = self._hashes(self.keys[rows], np.zeros(len(rows), np.int64))

    def begin_step(self) -> None:
        """The next draws are `[N, columns]`, each row at its own step."""
        self._starting = None
        self._draws = 0
        if len(self.keys) > _BLOCK_ROWS:
            self._at = self._together = None
            return
        if self._block is None or not self._within_block():
            self._block = self.steps.copy()
            self._ahead.clear()
            self._rows_ahead.clear()
            steps = self.steps[:, None] + np.arange(1, BLOCK_STEPS + 1)
            self._at = self._hashes(np.repeat(self.keys, BLOCK_STEPS), steps.ravel())
            self._offset = 0

    def _within_block(self) -> bool:
        assert self._block is not None
        if len(self.steps) == 1:
            self._offset = int(self.steps[0] - self._block[0])
            return self._offset < BLOCK_STEPS
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
        self._draws += 1
        numbers_now: NDArray[np.float32] = ahead[self._offset]
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

    def hashed(self, columns: int) -> HashedDraw:
        """What the next draw of all rows within a step is made from; it counts as drawn."""
        draw = self._draws
        self._draws += 1
        steps = torch.from_numpy(self.steps + 1).to(self._device)
        return HashedDraw(self._key_tensor(self.keys), steps, self._places_of(draw, columns))

    def _key_tensor(self, keys: NDArray[np.uint64]) -> Tensor:
        return torch.from_numpy(keys.view(np.int64)).to(self._device)

    def _hashes(self, keys: NDArray[np.uint64], steps: NDArray[np.int64]) -> Tensor:
        return hashes(self._key_tensor(keys), torch.from_numpy(steps).to(self._device))

    def _numbers(self, kind: Kind, columns: int, draw: int) -> Tensor:
        """`[R, columns]` for each of the hashed keys and steps `[R]`."""
        return numbers_of(self._bits(columns, draw), kind, columns)

    def _bits(self, columns: int, draw: int) -> Tensor:
        if self._at is None:
            self._at = self._hashes(self.keys, self.steps + 1)
        if self._starting is not None or len(self.keys) <= _BLOCK_ROWS:
            return hashed_bits(self._at, self._places_of(draw, columns))
        if self._plan[draw : draw + 1] != [columns]:
            self._plan[draw:] = [columns]
            return hashed_bits(self._at, self._places_of(draw, columns))
        if self._together is None or draw >= len(self._together):
            places = [self._places_of(place, its) for place, its in enumerate(self._plan)]
            self._together = hashed_bits(self._at, torch.cat(places)).split([len(part) for part in places], 1)
        return self._together[draw]

    def _places_of(self, draw: int, columns: int) -> Tensor:
        places = self._places.get((draw, columns))
        if places is None:
            places = self._places[(draw, columns)] = draw_places(draw, columns, self._device)
        return places
