"""Workers that are actors of a Ray cluster."""

from __future__ import annotations

import importlib
import itertools
import os
import pickle
import signal
import sys
import tempfile
import time
import traceback
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamenv.kinds import added_kinds, adopt_kinds
from dreamenv.workers.local import TaskTraceback, portable
from dreamenv.workers.luggage import own_modules, pickle_and_modules
from dreamenv.workers.parcel import Parcel
from dreamenv.workers.place import Place
from dreamenv.workers.pool import MakeRunner, Pool, Worker, WorkerDied
from dreamenv.workers.ray_cluster import check_nodes, connect, room

# Results of more bytes are compressed where that helps: frames do, files of episodes are compressed already
_WORTH_COMPRESSING = 1 << 16
_SECONDS_BETWEEN_LOOKS = 10.0
# Of a population and of its validation
_RUNNERS_KEPT = 2


class _Spares:
    """Actors that have nothing to do while some pool is open, so that another pool need not wait for their CPUs."""

    def __init__(self) -> None:
        self._open = 0
        self._actors: dict[tuple[tuple[str, Any], ...], list[Any]] = {}

    def open(self) -> None:
        """A pool has been opened."""
        self._open += 1

    def close(self) -> None:
        """A pool has been closed; with the last one all spares end."""
        self._open -= 1
        if not self._open:
            for actor in itertools.chain.from_iterable(self._actors.values()):
                actor.__ray_terminate__.remote()
            self._actors.clear()

    def put(self, needs: Mapping[str, Any], actor: Any) -> None:
        """`actor`, which has `needs`, has nothing to do."""
        self._actors.setdefault(tuple(needs.items()), []).append(actor)

    def take(self, needs: Mapping[str, Any]) -> Any:
        """One that has these needs; None where there is none."""
        actors = self._actors.get(tuple(needs.items()))
        return actors.pop() if actors else None


_spares = _Spares()


class RayPool(Pool["RayWorker"]):
    """Actors of one CPU each, or of what the place asks for; nodes that come later get workers too.

    Args:
        make_runner, setup, modules: As for `run_tasks`. They lie in the object store, from which each node gets them
            once.
        place: The cluster, how many workers at most, and what each of them needs.
        report: Receives what differs between nodes without being wrong, and at the end what went over the network.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigurationError: The address does not answer, nodes of other versions, or none that has room for a worker.
    """

    def __init__(
        self,
        make_runner: MakeRunner,
        setup: Any,
        *,
        place: Place,
        modules: Iterable[str],
        report: Callable[[str], None],
    ) -> None:
        assert place.address is not None
        self._ray = connect(place.address)
        self._place, self._report = place, report
        self._checked = check_nodes(self._ray, report)
        room(self._ray, place.settings)  # refuses a worker that fits nowhere
        content, found = pickle_and_modules((make_runner, setup, added_kinds()))
        sources = {
            name: Parcel.of(path, without="__pycache__") for name, path in own_modules([*found, *modules]).items()
        }
        self._luggage = self._ray.put((sources, content))
        self._bytes = {
            "setup": content.size + sum(parcel.size for parcel in sources.values()),
            "tasks": 0,
            "results": 0,
        }
        self._results = 0
        settings = place.settings
        self._needs: dict[str, Any] = {"num_cpus": settings.cpus, "max_restarts": 0, "max_task_retries": 0}
        if settings.memory is not None:
            self._needs["memory"] = int(settings.memory * 2**30)
        self._actor = self._ray.remote(_Actor)
        self._key = uuid.uuid4().hex
        _spares.open()
        self._looked, self._room = 0.0, 0

    @property
    def size(self) -> int:  # type: ignore[override]
        """Workers for which the cluster has room now, and no more than were asked for."""
        now = time.monotonic()
        if now - self._looked > _SECONDS_BETWEEN_LOOKS or not self._looked:
            self._checked = check_nodes(self._ray, self._report, self._checked)
            self._looked, self._room = now, room(self._ray, self._place.settings)
        return self._room if self._place.processes is None else min(self._room, self._place.processes)

    def hire(self) -> RayWorker:
        actor = _spares.take(self._needs) or self._actor.options(**self._needs).remote()
        return RayWorker(self, actor, actor.start.remote(self._key, self._luggage))

    def wait(self, workers: Sequence[RayWorker], seconds: float | None) -> Sequence[RayWorker]:
        by_answer = {worker.answer: worker for worker in workers}
        if not by_answer:
            return []
        found, _ = self._ray.wait(list(by_answer), num_returns=1, timeout=seconds)
        if found and len(by_answer) > 1:
            found, _ = self._ray.wait(list(by_answer), num_returns=len(by_answer), timeout=0)
        return [by_answer[answer] for answer in found]

    def dismiss(self, workers: Sequence[RayWorker]) -> None:
        for worker in workers:
            if worker.idle:
                _spares.put(self._needs, worker.actor)
            else:
                worker.kill()

    def rest(self, workers: Sequence[RayWorker]) -> Sequence[RayWorker]:
        self.dismiss(workers)
        return []

    def kill(self, actor: Any) -> None:
        """End an actor at once."""
        self._ray.kill(actor)

    def shortage(self) -> str | None:
        settings = self._place.settings
        free, there = (what().get("CPU", 0.0) for what in (self._ray.available_resources, self._ray.cluster_resources))
        memory = "" if settings.memory is None else f" and {settings.memory:g} GB"
        return f"a worker needs {settings.cpus:g} CPU{memory}; {free:g} of the cluster's {there:g} CPUs are free"

    def close(self) -> None:
        _spares.close()
        if self._results:
            self._report(
                f"ray: {self._bytes['setup']:,} bytes once to each node, {self._bytes['tasks'] // self._results:,} to "
                f"and {self._bytes['results'] // self._results:,} from a worker for each of {self._results:,} tasks"
            )

    def pack_task(self, task: Any) -> bytes:
        """`task` as it is sent."""
        content = pickle.dumps(task)
        self._bytes["tasks"] += len(content)
        return content

    def get(self, answer: Any) -> Any:
        """What an actor has answered.

        Raises:
            WorkerDied: There is no answer, nor will there be one.
            Exception: What the runner raised.
        """
        try:
            kind, content = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            raise WorkerDied(f"{type(error).__name__}: {_gist(error)}") from None
        if kind == "ready":
            return None
        self._bytes["results"] += len(content)
        self._results += 1
        value = pickle.loads(zlib.decompress(content) if kind.endswith("compressed") else content)  # noqa: S301
        if kind.startswith("error"):
            raised, trace = value
            raise raised from TaskTraceback(trace)
        return value


class RayWorker(Worker):
    """One actor, and the answer that is expected of it.

    Attributes:
        actor: Its handle.
        answer: Reference to what it will answer.
        idle: Whether it has answered.
    """

    def __init__(self, pool: RayPool, actor: Any, answer: Any) -> None:
        self._pool = pool
        self.actor, self.answer = actor, answer
        self.idle = False

    def give(self, task: Any) -> None:
        self.answer = self.actor.run.remote(self._pool.pack_task(task))
        self.idle = False

    def take(self) -> Any:
        found = self._pool.get(self.answer)
        self.idle = True
        return found

    def kill(self) -> None:
        self._pool.kill(self.actor)


class _Actor:
    """What runs on a node."""

    def __init__(self) -> None:
        _let_children_die_with_this()
        self._runners: OrderedDict[str, Callable[[Any], Any]] = OrderedDict()

    def start(self, key: str, luggage: Any) -> tuple[str, bytes]:
        """Get ready for the tasks of pool `key`; for those of the pool before too, which may come back."""
        if key not in self._runners:
            kind, content = _attempt(self._make_runner, (key, luggage))
            if kind.startswith("error"):
                return kind, content
        self._runners.move_to_end(key)
        while len(self._runners) > _RUNNERS_KEPT:
            self._runners.popitem(last=False)
        return "ready", b""

    def run(self, task: bytes) -> tuple[str, bytes]:
        """Do a task of the pool that it has been made ready for last."""
        return _attempt(self._runners[next(reversed(self._runners))], pickle.loads(task))  # noqa: S301

    def _make_runner(self, pool: tuple[str, Any]) -> None:
        key, (sources, content) = pool
        if sources:
            folder = Path(tempfile.mkdtemp(prefix="dreamenv-modules-"))
            for parcel in sources.values():
                parcel.lay_out(folder)
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
        make_runner, setup, kinds = pickle.loads(content.tobytes())  # noqa: S301
        adopt_kinds(kinds)
        self._runners[key] = make_runner(setup)


def _attempt(call: Callable[[Any], Any], argument: Any) -> tuple[str, bytes]:
    try:
        return _packed("result", call(argument))
    except Exception as error:
        return _packed("error", (portable(error), traceback.format_exc()))


def _packed(kind: str, value: Any) -> tuple[str, bytes]:
    content = pickle.dumps(value, protocol=5)
    if len(content) > _WORTH_COMPRESSING:
        sample = content[:_WORTH_COMPRESSING]
        if len(zlib.compress(sample, 1)) < 0.9 * len(sample):
            return f"{kind} compressed", zlib.compress(content, 1)
    return kind, content


def _let_children_die_with_this() -> None:
    """Programs that a runner starts (ViZDoom's engine) outlive an actor that is killed, unless the kernel kills them.

    They inherit the reading end of a pipe whose writing end this process alone has.
    """
    if sys.platform != "linux":
        return
    import fcntl

    reading, _ = os.pipe()
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)
    os.set_inheritable(reading, True)
    fcntl.fcntl(reading, fcntl.F_SETOWN, -os.getpgid(0))
    fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)


def _gist(error: Exception) -> str:
    """The last line of Ray's explanations says why; guesses follow behind its first sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(". ")[0] if lines else ""
