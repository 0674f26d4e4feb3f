"""Tasks over worker processes whose death is survived: the task is tried again by a fresh worker."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from dreamenv.errors import CollectionError, ConfigurationError

# A worker that has not unwound by then is killed
_SECONDS_TO_STOP = 10.0

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class _Worker:
    """One process that does a task at a time."""

    def __init__(self, make_runner: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make_runner, setup), daemon=True)
        self.process.start()
        theirs.close()

    def bury(self) -> int | None:
        """Exit code of the dead process, whose own children (ViZDoom's engine) would outlive it."""
        if self.process.pid is not None and hasattr(os, "killpg"):
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # it left none, or died before it had a group of its own
        self.process.join()
        return self.process.exitcode

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join(_SECONDS_TO_STOP)
        if self.process.is_alive():
            self.process.kill()
        self.bury()


def _serve(connection: Connection, make_runner: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
    # A process that the runner starts must not hold this end open: the death of the worker would go unnoticed
    os.set_inheritable(connection.fileno(), False)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # so that `bury` reaches those processes, and Ctrl-C reaches the parent alone
    # Unwind on `stop`, so that the runner's environments end the processes of their own (ViZDoom's engine)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        runner = make_runner(setup)
        while True:
            connection.send(("result", runner(connection.recv())))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception as error:  # an error of the task is not a death: it would come again, so the caller gets it
        connection.send(("error", (_portable(error), traceback.format_exc())))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # on its way out: a second unwinding would only print


def _portable(error: Exception) -> Exception:
    """`error` itself where it survives the way to the parent, else a CollectionError that quotes it."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (our own bytes, as multiprocessing would read them)
    except Exception:
        return CollectionError(f"{type(error).__name__}: {error}")
    return error


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def process_count(workers: int | None, tasks: int | None = None) -> int:
    """Processes to start for `tasks` tasks (None: not known how many): what `workers=` means everywhere.

    Args:
        workers: 0 for none, so that this process does the work; None for one a core, and for none where there is one
            core or one task.

    Raises:
        ConfigurationError: Fewer than 0.
    """
    if workers is not None and workers < 0:
        raise ConfigurationError(f"workers must be at least 0 (0 works in this process), got {workers}")
    most = cores() if workers is None else workers
    found = most if tasks is None else min(most, tasks)
    return 0 if workers is None and found == 1 else found


def run_tasks(
    tasks: Iterable[TaskT],
    make_runner: Callable[[Any], Callable[[TaskT], ResultT]],
    setup: Any,
    *,
    workers: int,
    retries: int = 3,
    report: Callable[[str], None] = lambda message: None,
) -> Iterator[tuple[TaskT, ResultT]]:
    """Results of `make_runner(setup)(task)` for each task, as they come in.

    Args:
        tasks: Hashable, not None, and read one at a time when a worker is free; so a caller can stop a lazy iterable
            at any moment.
        make_runner: A module-level function; called once in each worker.
        setup: Its argument, picklable.
        workers: Processes; 0 runs everything in this one.
        retries: How often one task may lose its worker before the run gives up.
        report: Receives a line whenever a worker dies.

    Raises:
        CollectionError: A task lost its worker more than `retries` times.
        Exception: What the task itself raised.
    """
    if workers <= 0:
        runner = make_runner(setup)
        for task in tasks:
            yield task, runner(task)
        return
    crew = _Crew(tasks, lambda: _Worker(make_runner, setup), workers=workers, retries=retries, report=report)
    try:
        yield from crew.results()
    finally:
        crew.stop()


class _Crew(Generic[TaskT]):
    """Worker processes, the tasks that they are at, and the tasks that lost their worker."""

    def __init__(
        self,
        tasks: Iterable[TaskT],
        hire: Callable[[], _Worker],
        *,
        workers: int,
        retries: int,
        report: Callable[[str], None],
    ) -> None:
        self._pending = iter(tasks)
        self._hire = hire
        self._retries = retries
        self._report = report
        self._again: list[TaskT] = []
        self._deaths: Counter[TaskT] = Counter()
        self._busy: dict[Any, tuple[_Worker, TaskT]] = {}
        self._idle = [hire() for _ in range(workers)]

    def results(self) -> Iterator[tuple[TaskT, Any]]:
        """Each task with its result, until no task is left."""
        while self._hand_out():
            for connection in wait(list(self._busy)):
                worker, task = self._busy.pop(connection)
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    self._replace(worker, task)
                    continue
                self._idle.append(worker)
                if kind == "error":
                    error, trace = value
                    self._report(trace)
                    raise error
                yield task, value

    def stop(self) -> None:
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            worker.stop()

    def _hand_out(self) -> bool:
        """Give each idle worker a task while there are tasks; returns whether anybody is at work."""
        while self._idle:
            task = self._again.pop() if self._again else next(self._pending, None)
            if task is None:
                break
            worker = self._idle.pop()
            try:
                worker.connection.send(task)
            except (BrokenPipeError, OSError):
                pass  # it died while idle; `results` notices
            self._busy[worker.connection] = worker, task
        return bool(self._busy)

    def _replace(self, dead: _Worker, task: TaskT) -> None:
        code = dead.bury()
        self._deaths[task] += 1
        if self._deaths[task] > self._retries:
            raise CollectionError(
                f"task {task} killed its worker {self._deaths[task]} times (exit code {code})"
            ) from None
        self._report(f"a worker died (exit code {code}) at task {task}; it is tried again")
        self._again.append(task)
        self._idle.append(self._hire())
