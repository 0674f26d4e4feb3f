"""Who does which task: every task gives one result, whichever workers die meanwhile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from dreamenv.errors import CollectionError
from dreamenv.workers.pool import Pool, Worker, WorkerDied

TaskT = TypeVar("TaskT")

# How often a shortage of workers is reported, and how long one is waited for
_SECONDS_BETWEEN_REPORTS = 60.0
_SECONDS_OF_PATIENCE = 600.0


class Crew(Generic[TaskT]):
    """The workers of a pool, the tasks that they are at, and the tasks that lost their worker.

    Args:
        pool: Where workers come from.
        retries: How often one task may lose its worker before the run gives up; and how many workers in a row may die
            while they get ready.
        time_limit: Seconds for one task, after which its worker is killed and the task tried again; None for no limit.
        report: Receives a line whenever a worker dies, and while there is none.
    """

    def __init__(
        self,
        pool: Pool[Any],
        *,
        retries: int = 3,
        time_limit: float | None = None,
        report: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._pool = pool
        self._retries = retries
        self._time_limit = time_limit
        self._report = report
        self._starting: list[Worker] = []
        self._idle: list[Worker] = []
        self._busy: dict[Worker, tuple[TaskT, float]] = {}
        self._stale: list[Worker] = []
        self._again: list[TaskT] = []
        self._deaths: Counter[TaskT] = Counter()
        self._false_starts = 0

    def results(self, tasks: Iterable[TaskT]) -> Iterator[tuple[TaskT, Any]]:
        """Each of `tasks` with its result, as they come in; may be called again for further tasks.

        Args:
            tasks: Hashable, not None, and read one at a time when a worker is free.

        Raises:
            CollectionError: A task lost its worker too often, workers cannot start, or there are none for minutes.
            Exception: What a task itself raised.
        """
        pending = iter(tasks)
        self._dismiss_stale()
        self._again, self._deaths = [], Counter()
        more = True
        try:
            while True:
                more = self._hand_out(pending) and more
                if more or self._again:
                    self._hire()
                elif not self._busy:
                    return
                for worker in self._wait():
                    if worker in self._busy:
                        yield from self._finished(worker)
                    else:
                        self._started(worker)
                self._end_overdue()
        finally:
            # Nobody waits for what these are at: a caller that stops early must not get it later as another's result
            self._stale += self._busy
            self._busy.clear()
            self._idle = list(self._pool.rest(self._idle))

    def close(self) -> None:
        """Dismiss everybody."""
        self._stale += [*self._starting, *self._idle, *self._busy]
        self._starting, self._idle, self._busy = [], [], {}
        try:
            self._dismiss_stale()
        finally:
            self._pool.close()

    def _dismiss_stale(self) -> None:
        stale, self._stale = self._stale, []
        self._pool.dismiss(stale)

    def _hire(self) -> None:
        """Replace those who have died; slowly, where new ones die too."""
        while len(self._starting) + len(self._idle) + len(self._busy) < self._pool.size:
            if self._false_starts > self._retries and self._starting:
                break
            self._starting.append(self._pool.hire())

    def _hand_out(self, pending: Iterator[TaskT]) -> bool:
        """Give each idle worker a task; returns False when there are no more."""
        while self._idle:
            task = self._again.pop() if self._again else next(pending, None)
            if task is None:
                return False
            worker = self._idle.pop()
            self._busy[worker] = task, time.monotonic()
            worker.give(task)
        return True

    def _wait(self) -> list[Worker]:
        """Those who have something to tell; nobody when a task's time is up."""
        began = time.monotonic()
        while True:
            found = list(self._pool.wait([*self._starting, *self._busy], self._seconds_to_wait()))
            if found or self._busy:
                return found
            waited = time.monotonic() - began
            reason = self._pool.shortage() or f"workers that are getting ready: {len(self._starting)}"
            if waited > _SECONDS_OF_PATIENCE:
                raise CollectionError(f"no worker has got ready within {waited:.0f} s: {reason}")
            self._report(f"no worker is ready after {waited:.0f} s: {reason}")

    def _seconds_to_wait(self) -> float | None:
        if not self._busy:
            return _SECONDS_BETWEEN_REPORTS
        if self._time_limit is None:
            return None
        oldest = min(since for _, since in self._busy.values())
        return max(0.0, oldest + self._time_limit - time.monotonic())

    def _started(self, worker: Worker) -> None:
        self._starting.remove(worker)
        try:
            worker.take()
        except WorkerDied as death:
            self._false_starts += 1
            nobody = not (self._starting or self._idle or self._busy)
            if self._false_starts > self._retries and nobody:
                raise CollectionError(
                    f"{self._false_starts} workers in a row died while they were getting ready ({death})"
                ) from None
            self._report(f"a worker died while it was getting ready ({death})")
            return
        except BaseException:
            self._stale.append(worker)
            raise
        self._false_starts = 0
        self._idle.append(worker)

    def _finished(self, worker: Worker) -> Iterator[tuple[TaskT, Any]]:
        task, _ = self._busy.pop(worker)
        try:
            value = worker.take()
        except WorkerDied as death:
            self._lost(task, str(death))
            return
        except BaseException:
            self._stale.append(worker)
            raise
        self._idle.append(worker)
        yield task, value

    def _end_overdue(self) -> None:
        if self._time_limit is None:
            return
        now = time.monotonic()
        for worker, (task, since) in list(self._busy.items()):
            if now - since >= self._time_limit:
                del self._busy[worker]
                worker.kill()
                self._lost(task, f"killed after {self._time_limit:g} s, the time limit")

    def _lost(self, task: TaskT, how: str) -> None:
        self._deaths[task] += 1
        if self._deaths[task] > self._retries:
            raise CollectionError(f"task {task} killed its worker {self._deaths[task]} times ({how})") from None
        self._report(f"a worker died ({how}) at task {task}; it is tried again")
        self._again.append(task)
