"""Tasks over workers whose death is survived: the task is tried again by another one.

`place.py` says where workers are, `pool.py` what a pool of them is; `local.py` and `on_ray.py` are the two pools, and
`crew.py` decides who does what.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from dreamenv.workers.crew import Crew
from dreamenv.workers.local import LocalPool
from dreamenv.workers.parcel import Parcel
from dreamenv.workers.place import AnyWorkers, Place, cores, find_place, parse_workers, process_count

__all__ = [
    "AnyWorkers",
    "Parcel",
    "Place",
    "Workforce",
    "cores",
    "find_place",
    "open_workers",
    "parse_workers",
    "process_count",
    "run_tasks",
]

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


class Workforce(Protocol):
    """Who does tasks, one lot of them after the other."""

    def results(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each of `tasks` with its result, as they come in; see `run_tasks`."""


class _ThisProcess:
    """A workforce of nobody else."""

    def __init__(self, runner: Callable[[Any], Any]) -> None:
        self._runner = runner

    def results(self, tasks: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for task in tasks:
            yield task, self._runner(task)


@contextmanager
def open_workers(
    make_runner: Callable[[Any], Callable[[Any], Any]],
    setup: Any,
    *,
    workers: AnyWorkers | Place,
    modules: Iterable[str] = (),
    retries: int = 3,
    report: Callable[[str], None] = lambda message: None,
) -> Iterator[Workforce]:
    """Workers for as many lots of tasks as there are; they are dismissed behind the block. See `run_tasks`."""
    place = workers if isinstance(workers, Place) else find_place(workers)
    if place.here:
        yield _ThisProcess(make_runner(setup))
        return
    if place.address is None:
        assert place.processes is not None
        pool: Any = LocalPool(make_runner, setup, size=place.processes)
    else:
        from dreamenv.workers.on_ray import RayPool  # Ray itself is imported where a cluster is used

        pool = RayPool(make_runner, setup, place=place, modules=modules, report=report)
    crew: Crew[Any] = Crew(pool, retries=retries, time_limit=place.settings.time_limit, report=report)
    try:
        yield crew
    finally:
        crew.close()


def run_tasks(
    tasks: Iterable[TaskT],
    make_runner: Callable[[Any], Callable[[TaskT], ResultT]],
    setup: Any,
    *,
    workers: AnyWorkers | Place,
    modules: Iterable[str] = (),
    retries: int = 3,
    report: Callable[[str], None] = lambda message: None,
) -> Iterator[tuple[TaskT, ResultT]]:
    """Results of `make_runner(setup)(task)` for each task, as they come in.

    Args:
        tasks: Hashable, not None, and read one at a time when a worker is free; so a caller can stop a lazy iterable
            at any moment.
        make_runner: A module-level function; called once in each worker.
        setup: Its argument, picklable. It goes to each machine once; files in it are `Parcel`s.
        workers: Where; see `find_place`.
        modules: Names of modules that the runner imports by name; those of the user's own go along.
        retries: How often one task may lose its worker before the run gives up.
        report: Receives a line whenever a worker dies, and what went over the network.

    Raises:
        CollectionError: A task lost its worker more than `retries` times, or workers die before they get ready.
        ConfigurationError: A script without its `if __name__ == "__main__"`, or a cluster that cannot be used.
        Exception: What the task itself raised.
    """
    rest = iter(tasks)
    first = next(rest, None)
    if first is None:
        return
    with open_workers(
        make_runner, setup, workers=workers, modules=modules, retries=retries, report=report
    ) as workforce:
        yield from workforce.results(itertools.chain([first], rest))
