"""Random numbers as a pure function of a key, a step and a place, so that a compiled step can hold it.

The function is the output of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"),
whose state is a counter and can therefore begin anywhere, used twice: of key and step, and of that and the place.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError

Kind = Literal["uniform", "normal"]

# Pairs of columns that a draw may have at most.
_MOST_PAIRS = 2**16


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
