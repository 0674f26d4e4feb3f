"""Torch as this package expects it, whatever the caller has set for the process or the thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


@contextmanager
def ordinary_torch() -> Iterator[None]:
    """Within it, tensors are ordinary float32 ones, also in a caller's `torch.inference_mode()` or default dtype.

    A tensor that is made in inference mode stays one for good: a model that is loaded there and kept for later could
    never be used outside. Whether gradients are recorded stays as it was.
    """
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    with torch.inference_mode(False), torch.set_grad_enabled(grad):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


def in_ordinary_torch(function: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """`function` within `ordinary_torch`, which it enters only where the caller has set something else."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        if torch.is_inference_mode_enabled() or torch.get_default_dtype() is not torch.float32:
            with ordinary_torch():
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    return run


def _one_thread() -> None:
    torch.set_num_threads(1)


# OpenMP's threads do not survive a fork, and whoever shares work with them there waits for ever
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread)
