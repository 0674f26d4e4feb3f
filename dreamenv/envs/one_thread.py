"""One thread at a time in a batch of dreams, whose steps share scratch memory and noise."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from dreamenv.errors import StepError


class OneThread:
    """A context that a second thread cannot enter while a first one is in it; the first may enter it again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise StepError(
                "another thread is stepping or resetting these dreams; give each thread an environment of its own, "
                "which shares the model's weights, or take turns"
            )

    def __exit__(self, *reason: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> OneThread:
        return OneThread()

    def __reduce__(self) -> tuple[type[OneThread], tuple[()]]:
        return OneThread, ()


class _Guarded(Protocol):
    @property
    def one_thread(self) -> OneThread: ...


SelfT = TypeVar("SelfT", bound=_Guarded)
P = ParamSpec("P")
ResultT = TypeVar("ResultT")


def by_one_thread(method: Callable[Concatenate[SelfT, P], ResultT]) -> Callable[Concatenate[SelfT, P], ResultT]:
    """A method that runs within its object's `one_thread`.

    Raises:
        StepError: Another thread is in one of these methods.
    """

    @functools.wraps(method)
    def run(self: SelfT, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        with self.one_thread:
            return method(self, *args, **kwargs)

    return cast(Callable[Concatenate[SelfT, P], ResultT], run)
