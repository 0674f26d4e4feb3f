"""Where tasks run: what `workers=` means everywhere."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass

from dreamenv.errors import ConfigurationError
from dreamenv.main_guard import refuse_unguarded
from dreamenv.options import options_from, parse_settings

# A number of processes of this machine, or a Ray cluster with settings, as `find_place` reads them
AnyWorkers = int | str | None
# Ray on this machine; the cluster that RAY_ADDRESS or this machine's `ray start` names
RAY, AUTO = "ray", "auto"
_ADDRESS = re.compile(r"(ray://)?[^\s/:,=]+:\d+")
_FORMS = 'a number of processes, "ray", "auto", "HOST:PORT" or "ray://HOST:PORT"'


@dataclass(frozen=True)
class WorkerSettings:
    """What may follow a place, as in `ray://head:10001,processes=64,time_limit=900`.

    Attributes:
        processes: Workers; None takes as many as the cluster has room for.
        cpus: CPUs of each.
        memory: Gigabytes of each that Ray reserves; None reserves nothing.
        time_limit: Seconds for one task, after which its worker is killed and the task tried again; None for no limit.
    """

    processes: int | None = None
    cpus: float = 1.0
    memory: float | None = None
    time_limit: float | None = None

    def __post_init__(self) -> None:
        if self.processes is not None and self.processes < 1:
            raise ConfigurationError(f"processes must be at least 1, got {self.processes}")
        for name in ("cpus", "memory", "time_limit"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigurationError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True)
class Place:
    """Where tasks run.

    Attributes:
        address: Of a Ray cluster; None for processes of this machine.
        processes: Processes of this machine, 0 for this one alone; for a cluster None or how many at most.
        settings: What else was asked for.
    """

    address: str | None
    processes: int | None
    settings: WorkerSettings = WorkerSettings()

    @property
    def here(self) -> bool:
        """Whether this process does the work itself."""
        return self.address is None and self.processes == 0

    @property
    def elsewhere(self) -> bool:
        """Whether workers may see other files than this process."""
        return self.address is not None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_place(workers: AnyWorkers, tasks: int | None = None) -> Place:
    """Where `tasks` tasks run (None: not known how many): what `workers=` means everywhere.

    Args:
        workers: 0 for none, so that this process does the work; N for N processes of this machine; None for one a core,
            and for none where there is one core or one task. "ray" for Ray on this machine, "auto" for the cluster that
            RAY_ADDRESS or a `ray start` on this machine names, "HOST:PORT" for one at an address, "ray://HOST:PORT" for
            one by way of its client server; settings of `WorkerSettings` may follow, behind commas.

    Raises:
        ConfigurationError: Anything else; or a script that starts workers whenever it is imported.
    """
    if isinstance(workers, str):
        return _named_place(workers, tasks)
    count = process_count(workers, tasks)
    return Place(None, count)


def _named_place(workers: str, tasks: int | None) -> Place:
    head, *rest = workers.strip().split(",")
    settings = options_from(WorkerSettings, parse_settings(rest), where=f"workers {head}")
    if head.isdecimal():
        if settings.processes is not None:
            raise ConfigurationError(f"workers={workers!r}: the number of processes is given twice")
        return Place(None, process_count(int(head), tasks), settings)
    if head not in (RAY, AUTO) and not _ADDRESS.fullmatch(head):
        raise ConfigurationError(f"workers={workers!r} is not understood; expected {_FORMS}")
    most = settings.processes
    if tasks is not None:
        most = tasks if most is None else min(most, tasks)
    refuse_unguarded()
    return Place(head, most, settings)


def parse_workers(text: str) -> int | str:
    """`workers=` from the command line.

    Raises:
        ConfigurationError: See `find_place`.
    """
    if re.fullmatch(r"-?\d+", text):
        process_count(int(text))
        return int(text)
    _named_place(text, None)
    return text


def process_count(workers: int | None, tasks: int | None = None) -> int:
    """Processes of this machine to start for `tasks` tasks; see `find_place`.

    Raises:
        ConfigurationError: Fewer than 0; or a script that starts workers whenever it is imported.
    """
    if workers is not None and workers < 0:
        raise ConfigurationError(f"workers must be at least 0 (0 works in this process), got {workers}")
    most = cores() if workers is None else workers
    found = most if tasks is None else min(most, tasks)
    count = 0 if workers is None and found == 1 else found
    if count:
        refuse_unguarded()
    return count
