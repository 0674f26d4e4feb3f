"""Random numbers of planners: a stream for each row of a batch, and one draw for all candidates of a row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import Noise


class RowNoise:
    """The `Noise` of B rows, each from a generator of its own, so that a row is planned as if it were alone.

    A draw of `k * B` rows gives k consecutive ones to each generator.
    """

    def __init__(self, generators: Sequence[torch.Generator]) -> None:
        """
        Raises:
            ConfigurationError: No generators.
        """
        if not generators:
            raise ConfigurationError("got no generators, expected one for each row of the batch")
        self._generators = list(generators)

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""
        each = self._rows_of_each(rows)
        return torch.cat([torch.rand(each, columns, generator=g, device=g.device) for g in self._generators])

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""
        each = self._rows_of_each(rows)
        return torch.cat([torch.randn(each, columns, generator=g, device=g.device) for g in self._generators])

    def fork(self) -> RowNoise:
        """Streams that branch off here: what is drawn from them leaves these where they are."""
        seeds = [int(torch.randint(2**63 - 1, (), generator=g, device=g.device)) for g in self._generators]
        pairs = zip(self._generators, seeds, strict=True)
        return RowNoise([torch.Generator(g.device).manual_seed(seed) for g, seed in pairs])

    def _rows_of_each(self, rows: int) -> int:
        each, rest = divmod(rows, len(self._generators))
        if rest:
            raise ConfigurationError(f"a draw of {rows} rows does not divide among {len(self._generators)} generators")
        return each


class CommonNoise:
    """Common random numbers: the N candidates of a row draw the same, so that they differ by their plans alone.

    Rows of a draw lie as `[B, N, P]`; for each of B rows, P particles are drawn once and shown to all N candidates.
    """

    def __init__(self, noise: Noise, rows: int, candidates: int) -> None:
        self._noise, self._rows, self._candidates = noise, rows, candidates

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""
        return self._spread(self._noise.uniform(rows // self._candidates, columns))

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""
        return self._spread(self._noise.normal(rows // self._candidates, columns))

    def _spread(self, drawn: Tensor) -> Tensor:
        by_row = drawn.view(self._rows, 1, -1, drawn.shape[1])
        return by_row.expand(-1, self._candidates, -1, -1).reshape(-1, drawn.shape[1])


class SharedNoise:
    """Common random numbers: rollout r of every candidate draws the same.

    A call draws `[R, columns]` whatever the batch holds, so that rows which leave change nothing for those which stay.

    Attributes:
        rollout: `[rows]` int64, the rollout that each row of the batch belongs to.
    """

    def __init__(self, generator: torch.Generator, rollouts: int) -> None:
        self._generator = generator
        self._rollouts = rollouts
        self.rollout = torch.arange(rollouts, device=generator.device)

    def uniform(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32 in [0, 1)."""
        device = self._generator.device
        return torch.rand(self._rollouts, columns, generator=self._generator, device=device)[self.rollout]

    def normal(self, rows: int, columns: int) -> Tensor:
        """`[rows, columns]` float32, standard normal."""
        device = self._generator.device
        return torch.randn(self._rollouts, columns, generator=self._generator, device=device)[self.rollout]
