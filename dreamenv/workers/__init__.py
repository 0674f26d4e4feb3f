"""Tasks over workers whose death is survived: the task is tried again by another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from dreamenv.workers.crew import Crew
from dreamenv.workers.local import LocalPool
from dreamenv.workers.place import cores, process_count

__all__ = ["cores", "process_count", "run_tasks"]

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


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
        CollectionError: A task lost its worker more than `retries` times, or workers die before they get ready.
        ConfigurationError: A script without its `if __name__ == "__main__"`.
        Exception: What the task itself raised.
    """
    if workers <= 0:
        runner = make_runner(setup)
        for task in tasks:
            yield task, runner(task)
        return
    crew: Crew[TaskT] = Crew(LocalPool(make_runner, setup, size=workers), retries=retries, report=report)
    try:
        yield from crew.results(tasks)
    finally:
        crew.close()
