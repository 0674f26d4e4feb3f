"""Tasks over worker processes."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from dreamenv.errors import CollectionError, ConfigurationError, MissingExtraError, missing_extra
from dreamenv.workers import process_count, run_tasks
from dreamenv.workers.crew import Crew
from dreamenv.workers.local import LocalPool
from tests.conftest import RunPython

pytestmark = pytest.mark.integration


def test_none_is_one_process_a_core_and_0_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamenv.workers.place.cores", lambda: 4)
    assert [process_count(None), process_count(None, 3), process_count(None, 9), process_count(None, 1)] == [4, 3, 4, 0]
    assert [process_count(0), process_count(1), process_count(6), process_count(6, 2)] == [0, 1, 6, 2]
    monkeypatch.setattr("dreamenv.workers.place.cores", lambda: 1)
    assert [process_count(None), process_count(None, 9), process_count(2, 9)] == [0, 0, 2]
    with pytest.raises(ConfigurationError, match=r"at least 0 \(0 works in this process\), got -1"):
        process_count(-1)


def make_square(setup: int) -> Callable[[int], tuple[int, int]]:
    return lambda task: (setup * task * task, os.getpid())


def make_measured(setup: bytes) -> Callable[[int], int]:
    return lambda task: task * len(setup)


def make_fragile(folder: str) -> Callable[[int], int]:
    """Task 1 leaves by `os._exit` the first time; a child of its own outlives it and holds the worker's files open."""

    def run(task: int) -> int:
        mark = Path(folder) / f"died-{task}"
        if task == 1 and not mark.exists():
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], close_fds=False)
            mark.write_text(str(child.pid), encoding="utf-8")
            os._exit(3)
        return task

    return run


def make_doomed(setup: None) -> Callable[[int], int]:
    os._exit(7)


def make_deadly(setup: None) -> Callable[[int], int]:
    return lambda task: os._exit(7)


def make_unmakable(setup: None) -> Callable[[int], int]:
    raise missing_extra("vizdoom", "real")


def make_failing(setup: None) -> Callable[[int], int]:
    def run(task: int) -> int:
        raise ZeroDivisionError(f"task {task}")

    return run


def make_unpicklable(setup: None) -> Callable[[int], Any]:
    return lambda task: lambda: task


def make_hanging(folder: str) -> Callable[[int], int]:
    """Task 1 hangs the first time, task 3 always."""

    def run(task: int) -> int:
        mark = Path(folder) / f"hung-{task}"
        if task == 3 or (task == 1 and not mark.exists()):
            mark.touch()
            time.sleep(120)
        return task

    return run


def make_late_writer(folder: str) -> Callable[[int], int]:
    """Each task says that it has begun, waits until the parent is gone, and then writes."""

    def run(task: int) -> int:
        parent = os.getppid()
        (Path(folder) / "begun").write_text(f"{os.getpid()}\n", encoding="utf-8")
        while os.getppid() == parent:
            pass
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            pass
        (Path(folder) / "written").touch()
        return task

    return run


def make_deaf(folder: str) -> Callable[[int], int]:
    def run(task: int) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if task == 1:
            (Path(folder) / "busy").write_text(str(os.getpid()), encoding="utf-8")
            time.sleep(120)
        while not (Path(folder) / "busy").exists():
            time.sleep(0.01)
        return task

    return run


def deaths(lines: list[str]) -> list[str]:
    """Those of the lines that tell of one; a busy machine may have told that it is slow as well."""
    return [line for line in lines if "died" in line]


def is_alive(pid: int) -> bool:
    """False for a zombie too: nobody may be there to reap it."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_task_is_done_once(workers: int) -> None:
    found = list(run_tasks(range(12), make_square, 2, workers=workers))
    assert sorted((task, value) for task, (value, _) in found) == [(n, 2 * n * n) for n in range(12)]
    processes = {pid for _, (_, pid) in found}
    assert len(processes) <= max(workers, 1)
    assert (os.getpid() in processes) is (workers == 0)
    assert not multiprocessing.active_children()


def test_tasks_are_read_when_a_worker_is_free_and_the_caller_may_stop() -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        for task in itertools.count():
            read.append(task)
            yield task

    for done, _ in enumerate(run_tasks(endless(), make_square, 1, workers=1)):
        if done == 3:
            break
    assert len(read) <= 5
    assert not multiprocessing.active_children()


def test_no_tasks_are_soon_done() -> None:
    assert list(run_tasks([], make_square, 1, workers=1)) == []


def test_a_death_is_noticed_though_a_child_lives_on_and_the_child_is_ended(tmp_path: Path) -> None:
    lines: list[str] = []
    begin = time.monotonic()
    found = dict(run_tasks(range(3), make_fragile, str(tmp_path), workers=1, report=lines.append))
    assert found == {0: 0, 1: 1, 2: 2}
    assert deaths(lines) == ["a worker died (exit code 3) at task 1; it is tried again"]
    assert time.monotonic() - begin < 60
    child = int((tmp_path / "died-1").read_text(encoding="utf-8"))
    for _ in range(100):
        if not is_alive(child):
            break
        time.sleep(0.05)
    assert not is_alive(child)


def test_a_worker_that_cannot_start_ends_the_run() -> None:
    lines: list[str] = []
    with pytest.raises(CollectionError, match=r"3 workers in a row died while they were getting ready \(exit code 7\)"):
        list(run_tasks([5], make_doomed, None, workers=1, retries=2, report=lines.append))
    assert deaths(lines) == ["a worker died while it was getting ready (exit code 7)"] * 2


def test_a_task_that_kills_every_worker_ends_the_run() -> None:
    lines: list[str] = []
    with pytest.raises(CollectionError, match=r"task 5 killed its worker 2 times \(exit code 7\)"):
        list(run_tasks([5], make_deadly, None, workers=1, retries=1, report=lines.append))
    assert deaths(lines) == ["a worker died (exit code 7) at task 5; it is tried again"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_no_death(workers: int) -> None:
    lines: list[str] = []
    with pytest.raises(ZeroDivisionError, match="task 4"):
        list(run_tasks([4], make_failing, None, workers=workers, report=lines.append))
    with pytest.raises(MissingExtraError, match=r"dreamenv\[real\]"):
        list(run_tasks([4], make_unmakable, None, workers=workers, report=lines.append))
    assert not deaths(lines)
    assert not multiprocessing.active_children()


def test_an_error_says_where_in_the_worker_it_was_raised() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        list(run_tasks([4], make_failing, None, workers=1))
    assert 'raise ZeroDivisionError(f"task {task}")' in str(raised.value.__cause__)


def test_a_result_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(Exception, match="(?i)pickle"):
        list(run_tasks([4], make_unpicklable, None, workers=1))
    assert not multiprocessing.active_children()


TASKS = """
from dreamenv.workers import process_count, run_tasks
from tests.workers.test_workers import make_square
print(list(run_tasks([1, 2], make_square, 1, workers=process_count(2))))
"""
# The setup is more than a pipe holds, and nobody reads it
LARGE = """
from dreamenv.workers import run_tasks
from tests.workers.test_workers import make_measured
print(list(run_tasks([1, 2], make_measured, bytes(10**6), workers=2)))
"""
# Here the parent holds the folder's lock while its workers begin
COLLECTION = """
from dreamenv import RealEnvSpec
from dreamenv.data.collect import collect
collect(RealEnvSpec("CartPole-v1"), "run", episodes=2, workers=2)
"""


@pytest.mark.parametrize("text", [TASKS, LARGE, COLLECTION], ids=["tasks", "large setup", "collection"])
def test_a_script_without_a_guard_is_told_so_once(text: str, tmp_path: Path, root: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    environment = with_package(root)
    ended = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("dreamenv.errors.ConfigurationError: the script starts its workers again in each worker")
    assert ended.stderr.count("Traceback") == 1


def test_workers_that_are_dismissed_before_they_have_read_their_setup_leave_nothing() -> None:
    pool = LocalPool(make_measured, bytes(10**7), size=2)
    workers = [pool.hire() for _ in range(2)]
    assert all(worker._sending.is_alive() for worker in workers)
    pool.dismiss(workers)
    assert all(worker.connection.closed and not worker._sending.is_alive() for worker in workers)
    assert not multiprocessing.active_children()


def test_a_crew_does_one_lot_of_tasks_after_the_other() -> None:
    crew: Crew[int] = Crew(LocalPool(make_square, 1, size=1))
    try:
        found = [list(crew.results(range(first, first + 3))) for first in (0, 3)]
        for _ in crew.results(range(5)):
            break  # with a worker at work, whose result nobody may get
        found.append(list(crew.results([7])))
    finally:
        crew.close()
    assert [[(task, square) for task, (square, _) in lot] for lot in found] == [
        [(0, 0), (1, 1), (2, 4)], [(3, 9), (4, 16), (5, 25)], [(7, 49)]
    ]  # fmt: skip
    assert len({pid for lot in found[:2] for _, (_, pid) in lot}) == 1
    assert not multiprocessing.active_children()


def test_a_task_that_hangs_is_tried_again(tmp_path: Path) -> None:
    lines: list[str] = []
    crew: Crew[int] = Crew(
        LocalPool(make_hanging, str(tmp_path), size=1), retries=1, time_limit=0.3, report=lines.append
    )
    try:
        assert dict(crew.results([1, 2])) == {1: 1, 2: 2}
        with pytest.raises(CollectionError, match="task 3 killed its worker 2 times"):
            list(crew.results([3]))
    finally:
        crew.close()
    assert deaths(lines)[0] == "a worker died (killed after 0.3 s, the time limit) at task 1; it is tried again"


def test_a_worker_that_does_not_heed_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamenv.workers.local._SECONDS_TO_STOP", 0.3)
    tasks = run_tasks([0, 1], make_deaf, str(tmp_path), workers=2)
    assert next(tasks) == (0, 0)
    tasks.close()  # type: ignore[attr-defined]
    assert not is_alive(int((tmp_path / "busy").read_text(encoding="utf-8")))


@contextmanager
def parent_of(make: str, setup: object, tmp_path: Path, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A script whose one worker is at tasks without end."""
    script = tmp_path / "parent.py"
    script.write_text(
        f"import signal\nfrom dreamenv.workers import run_tasks\nfrom tests.workers.test_workers import {make}\n"
        "if __name__ == '__main__':\n"
        # A shell has its background jobs ignore Ctrl-C, and what they start would too
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"    for _, found in run_tasks(iter(int, 1), {make}, {setup!r}, workers=1):\n"
        "        print(found, flush=True)\n",
        encoding="utf-8",
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=with_package(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def command_line(pid: int) -> bytes:
    """Empty once it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def with_package(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


def wait_for(condition: Callable[[], bool], seconds: float = 60.0, *, every: float = 0.01) -> bool:
    until = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(every)
    return met


def test_a_busy_worker_ends_with_its_parent_and_writes_nothing_afterwards(tmp_path: Path, root: Path) -> None:
    begun = tmp_path / "begun"
    with parent_of("make_late_writer", str(tmp_path), tmp_path, root) as parent:
        assert wait_for(lambda: begun.exists() and begun.read_text(encoding="utf-8").endswith("\n"))
        worker = int(begun.read_text(encoding="utf-8"))
        parent.kill()
        assert parent.communicate()[1] == ""
    assert wait_for(lambda: not is_alive(worker))
    assert not (tmp_path / "written").exists()


def test_ctrl_c_is_the_parents_alone(tmp_path: Path, root: Path) -> None:
    """A terminal sends it to the whole group, also while a worker is only starting."""
    with parent_of("make_square", 1, tmp_path, root) as parent:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        if not children.exists():
            pytest.skip("this system does not list the children of a process")

        def starts_a_worker() -> bool:
            """What it imports may run commands before it hears of Ctrl-C."""
            pids = children.read_text(encoding="utf-8").split()
            return any(b"multiprocessing" in command_line(int(pid)) for pid in pids)

        assert wait_for(starts_a_worker)
        os.killpg(parent.pid, signal.SIGINT)
        shown = parent.communicate(timeout=60)[1]
    assert shown.count("Traceback") == 1
    assert shown.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_what_comes_while_a_worker_is_started_is_heard_behind_the_start(name: str, run_python: RunPython) -> None:
    """Also where another thread lets the kernel have it at once."""
    code = f"""
import os, signal, threading, time
from dreamenv.workers import local

class Stopped(BaseException):
    pass

def stop(*_):
    raise Stopped

signal.signal(signal.{name}, stop)
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
started = False
try:
    with local._without_interrupt():
        os.kill(os.getpid(), signal.{name})
        time.sleep(0.2)
        started = True
except Stopped:
    print("heard", started, signal.getsignal(signal.{name}) is stop)
"""
    assert run_python("-c", code).stdout.strip() == "heard True True"
