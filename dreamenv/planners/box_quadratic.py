"""The minimum of a quadratic within bounds, for many of them at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Newton steps at most; the set of coordinates at their bounds settles within as many as there are, nearly always
_MOST_STEPS = 20
_SCALES = tuple(0.5**power for power in range(12))
_TOLERANCE = 1e-10


class BoxMinimum(NamedTuple):
    """Of R quadratics: where they are least, `[R, A]`, and which coordinates are not held by a bound, `[R, A]` bool."""

    place: Tensor
    free: Tensor


def box_minimum(curvature: Tensor, slope: Tensor, low: Tensor, high: Tensor) -> BoxMinimum:
    """The minimum of ½ x'Hx + g'x over low <= x <= high, by projected Newton steps (Tassa, Mansard & Todorov 2014,
    "Control-limited differential dynamic programming", section III-B; Bertsekas 1982).

    Departure: of the step lengths 1, ½, ¼, ..., the best one is taken, not the first that is good enough.

    Args:
        curvature: H, `[R, A, A]`, positive definite.
        slope: g, `[R, A]`.
        low, high: `[R, A]`; 0 lies between them.
    """
    scales = torch.tensor(_SCALES, dtype=slope.dtype, device=slope.device).view(-1, 1, 1)
    place = torch.zeros_like(slope)
    for _ in range(_MOST_STEPS):
        gradient = slope + _times(curvature, place)
        free = _free(place, gradient, low, high)
        left = torch.where(free, gradient, 0.0)
        if bool((left.abs() <= _TOLERANCE * (1 + slope.abs())).all()):
            break
        step = -torch.linalg.solve(among_free(curvature, free), left.unsqueeze(2)).squeeze(2)
        tried = torch.minimum(torch.maximum(place + scales * step, low), high)
        worth = (0.5 * _times(curvature, tried) * tried + slope * tried).sum(2)
        least, chosen = worth.min(0)
        now = (0.5 * _times(curvature, place) * place + slope * place).sum(1)
        better = tried[chosen, torch.arange(len(place), device=place.device)]
        place = torch.where((least < now).unsqueeze(1), better, place)
    return BoxMinimum(place, _free(place, slope + _times(curvature, place), low, high))


def among_free(curvature: Tensor, free: Tensor) -> Tensor:
    """`curvature` with rows and columns that are not `free` replaced by those of the identity."""
    both = free.unsqueeze(2) & free.unsqueeze(1)
    identity = torch.eye(free.shape[1], dtype=curvature.dtype, device=curvature.device)
    return torch.where(both, curvature, identity)


def _free(place: Tensor, gradient: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ~(((place <= low) & (gradient > 0)) | ((place >= high) & (gradient < 0)))


def _times(matrix: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("rij,...rj->...ri", matrix, vectors)
