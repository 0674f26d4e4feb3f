"""The noise that every sampler takes, and generators that follow from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Noise(Protocol):
    """Source of a dream's random numbers. Row i of a draw belongs to dream i of the batch."""

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""


class GeneratorNoise:
    """Noise for all rows from one `torch.Generator`, drawn on the generator's device."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(self, rows: int, columns: int) -> Tensor:
        return torch.rand(rows, columns, generator=self.generator, device=self.generator.device)

    def normal(self, rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=self.generator, device=self.generator.device)


class NoNoise:
    """The middle of every distribution: for the mode of a dream, on which no draw has an effect."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = device

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` of 0.5."""
        return torch.full((rows, columns), 0.5, device=self._device)

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` of 0."""
        return torch.zeros(rows, columns, device=self._device)


def as_noise(noise: torch.Generator | Noise) -> Noise:
    """`generator` itself when it is a `Noise`, wrapped when it is a `torch.Generator`."""
    return GeneratorNoise(noise) if isinstance(noise, torch.Generator) else noise


class DreamNoise(Noise, Protocol):
    """The `Noise` of running dreams, which can also give the numbers of a single one without tensors."""

    def row(self, kind: Literal["uniform", "normal"], columns: int) -> NDArray[np.float32]:
        """`[columns]` float32, to be read only: what `Noise` of that kind and one row gives."""


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on `seed` and `step` alone, so that a resumed run draws what an unbroken one draws."""
    return torch.Generator(device).manual_seed(mixed_seed(seed, step))


def mixed_seed(seed: int, step: int) -> int:
    """The seed of `step_generator`, in [0, 2⁶³)."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def seeded_weights(seed: int) -> Iterator[None]:
    """Within it, torch's layers draw their initial weights from `seed`; the global generator is restored behind it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # noqa: TID251  (layers take no generator; the fork keeps it from leaking)
        yield
