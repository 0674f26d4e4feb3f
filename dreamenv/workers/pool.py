"""What a pool of workers is: each does a task at a time, and any of them may die at any moment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

# Called once in each worker with the setup; what it returns is called with each task. A module-level function.
MakeRunner = Callable[[Any], Callable[[Any], Any]]


class WorkerDied(Exception):
    """A worker is gone and its task with it; the message says how it died."""


class Worker(ABC):
    """One worker. It first gets ready, by making its runner, and then does a task at a time."""

    @abstractmethod
    def give(self, task: Any) -> None:
        """Begin `task`; the worker is ready and has nothing to do."""

    @abstractmethod
    def take(self) -> Any:
        """What `Pool.wait` has announced: None when the worker has got ready, else the result of its task.

        Raises:
            WorkerDied: There will be no result.
            Exception: What the runner, or the making of it, raised.
        """

    @abstractmethod
    def kill(self) -> None:
        """End it at once, whatever it is doing."""


WorkerT = TypeVar("WorkerT", bound=Worker)


class Pool(ABC, Generic[WorkerT]):
    """Where workers come from.

    Attributes:
        size: Workers to have at a time.
    """

    size: int

    @abstractmethod
    def hire(self) -> WorkerT:
        """A new worker, which is getting ready."""

    @abstractmethod
    def wait(self, workers: Sequence[WorkerT], seconds: float | None) -> Sequence[WorkerT]:
        """Those of `workers` that have something to take, after at most so many seconds (None: however long it takes).

        The death of a worker is something to take too.
        """

    @abstractmethod
    def dismiss(self, workers: Sequence[WorkerT]) -> None:
        """End these workers, giving them time to close what they hold."""

    def rest(self, workers: Sequence[WorkerT]) -> Sequence[WorkerT]:
        """Called between lots of tasks with the workers that have nothing to do; returns those that stay ready."""
        return workers

    def shortage(self) -> str | None:
        """Why new workers are slow to get ready, where the pool knows it: what is asked for, and what there is."""
        return None

    def close(self) -> None:
        """Free what the pool itself holds; its workers have been dismissed."""
