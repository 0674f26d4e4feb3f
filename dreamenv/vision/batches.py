"""Encoding any number of observations in batches of few sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamenv.vision.base import Vision


def encode_rows(vision: Vision, observations: Tensor, *, most: int = 512) -> Tensor:
    """`[N, E]`, what `vision` encodes of observations `[N, ...]`, at most `most` at once.

    A batch is filled up to a power of two: convolutions keep a compiled kernel and its memory for each size of batch
    that they meet, a gigabyte for the sizes that episodes of all lengths give.
    """
    parts = []
    for part in observations.split(most):
        rows = len(part)
        more = (1 << (rows - 1).bit_length()) - rows
        if more:
            part = torch.cat([part, part[-1:].expand(more, *part.shape[1:])])
        parts.append(vision.encode(part)[:rows])
    return torch.cat(parts)
