from __future__ import annotations

import torch
from torch import Tensor

from dreamenv.vision.batches import encode_rows
from dreamenv.vision.identity import IdentityVision


class Counted(IdentityVision):
    """Notes how many rows it is given at once."""

    def __init__(self) -> None:
        super().__init__(3)
        self.sizes: set[int] = set()

    def encode(self, observation: Tensor) -> Tensor:
        self.sizes.add(len(observation))
        return super().encode(observation)


def test_all_rows_are_encoded_in_few_sizes_of_batch() -> None:
    vision = Counted()
    for count in (1, 2, 3, 5, 31, 33, 64, 65, 100, 200, 251):
        rows = torch.randn(count, 3, generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(encode_rows(vision, rows, most=64), rows)
    assert vision.sizes == {1, 2, 4, 8, 32, 64}
