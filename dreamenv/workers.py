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


class _Worker(Generic[TaskT]):
    """One process and the task it is at."""

    def __init__(self, make_runner: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make_runner, setup), daemon=True)
        self.process.start()
        theirs.close()
        self.task: TaskT | None = None

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
    pending = iter(tasks)
    again: list[TaskT] = []
    deaths: Counter[TaskT] = Counter()
    busy: dict[Connection, _Worker[TaskT]] = {}
    idle = [_Worker[TaskT](make_runner, setup) for _ in range(workers)]
    try:
        while True:
            while idle:
                upcoming = again.pop() if again else next(pending, None)
                if upcoming is None:
                    break
                worker = idle.pop()
                worker.task = upcoming
                try:
                    worker.connection.send(upcoming)
                except (BrokenPipeError, OSError):
                    pass  # it died while idle; the receiving side below notices
                busy[worker.connection] = worker
            if not busy:
                return
            for connection in wait(list(busy)):
                worker = busy.pop(connection)  # type: ignore[call-overload]
                task = worker.task
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    code = worker.bury()
                    deaths[task] += 1
                    if deaths[task] > retries:
                        raise CollectionError(
                            f"task {task} killed its worker {deaths[task]} times (exit code {code})"
                        ) from None
                    report(f"a worker died (exit code {code}) at task {task}; it is tried again")
                    again.append(task)
                    idle.append(_Worker[TaskT](make_runner, setup))
                    continue
                idle.append(worker)
                if kind == "error":
                    error, trace = value
                    report(trace)
                    raise error
                yield task, value
    finally:
        for worker in [*idle, *busy.values()]:
            worker.stop()
