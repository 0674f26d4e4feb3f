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
from pathlib import Path
from typing import Any

import pytest

from dreamenv.errors import CollectionError, ConfigurationError, MissingExtraError, missing_extra
from dreamenv.workers import process_count, run_tasks

pytestmark = pytest.mark.integration


def test_none_is_one_process_a_core_and_0_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamenv.workers.cores", lambda: 4)
    assert [process_count(None), process_count(None, 3), process_count(None, 9), process_count(None, 1)] == [4, 3, 4, 0]
    assert [process_count(0), process_count(1), process_count(6), process_count(6, 2)] == [0, 1, 6, 2]
    monkeypatch.setattr("dreamenv.workers.cores", lambda: 1)
    assert [process_count(None), process_count(None, 9), process_count(2, 9)] == [0, 0, 2]
    with pytest.raises(ConfigurationError, match=r"at least 0 \(0 works in this process\), got -1"):
        process_count(-1)


def make_square(setup: int) -> Callable[[int], tuple[int, int]]:
    return lambda task: (setup * task * task, os.getpid())


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


def make_unmakable(setup: None) -> Callable[[int], int]:
    raise missing_extra("vizdoom", "real")


def make_failing(setup: None) -> Callable[[int], int]:
    def run(task: int) -> int:
        raise ZeroDivisionError(f"task {task}")

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
    assert lines == ["a worker died (exit code 3) at task 1; it is tried again"]
    assert time.monotonic() - begin < 60
    child = int((tmp_path / "died-1").read_text(encoding="utf-8"))
    for _ in range(100):
        if not is_alive(child):
            break
        time.sleep(0.05)
    assert not is_alive(child)


def test_a_worker_that_cannot_start_ends_the_run() -> None:
    lines: list[str] = []
    with pytest.raises(CollectionError, match=r"task 5 killed its worker 3 times \(exit code 7\)"):
        list(run_tasks([5], make_doomed, None, workers=1, retries=2, report=lines.append))
    assert len(lines) == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_is_no_death(workers: int) -> None:
    lines: list[str] = []
    with pytest.raises(ZeroDivisionError, match="task 4"):
        list(run_tasks([4], make_failing, None, workers=workers, report=lines.append))
    with pytest.raises(MissingExtraError, match=r"dreamenv\[real\]"):
        list(run_tasks([4], make_unmakable, None, workers=workers, report=lines.append))
    assert not [line for line in lines if "died" in line]
    assert not multiprocessing.active_children()


def test_a_worker_that_does_not_heed_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamenv.workers._SECONDS_TO_STOP", 0.3)
    tasks = run_tasks([0, 1], make_deaf, str(tmp_path), workers=2)
    assert next(tasks) == (0, 0)
    tasks.close()  # type: ignore[attr-defined]
    assert not is_alive(int((tmp_path / "busy").read_text(encoding="utf-8")))


def test_the_death_of_the_parent_ends_the_workers(tmp_path: Path, root: Path) -> None:
    program = (
        "import os, sys\nfrom dreamenv.workers import run_tasks\nfrom tests.test_workers import make_square\n"
        "if __name__ == '__main__':\n"
        "    for _, (_, pid) in run_tasks(iter(int, 1), make_square, 1, workers=1):\n"
        "        print(pid, flush=True)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program, encoding="utf-8")
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen([sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    for _ in range(400):
        if not is_alive(worker):
            break
        time.sleep(0.05)
    assert not is_alive(worker)
