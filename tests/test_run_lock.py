"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamenv.data.collect import collect
from dreamenv.errors import FolderInUseError, StorageError
from dreamenv.run_lock import LOCK_FILE, run_lock
from dreamenv.types import RealEnvSpec

HOLD = """
import sys, time
from dreamenv.run_lock import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""
CARTPOLE = RealEnvSpec("CartPole-v1")


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A folder in which another process is at work."""
    folder = tmp_path / "run"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    yield folder, other
    other.kill()
    other.wait()
    other.stdout.close()


def test_a_second_process_is_told_who_is_at_work(held: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, other = held
    with pytest.raises(FolderInUseError, match=rf"run is in use by process {other.pid} on .* since \d{{4}}-"):
        collect(CARTPOLE, folder, episodes=1, workers=0)
    assert [file.name for file in folder.iterdir()] == [LOCK_FILE]


def test_the_lock_ends_with_its_process(held: tuple[Path, subprocess.Popen[str]]) -> None:
    folder, other = held
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (folder / LOCK_FILE).exists()
    assert collect(CARTPOLE, folder, episodes=1, workers=0).episodes == 1
    assert not (folder / LOCK_FILE).exists()


def test_another_thread_is_another_worker_too(tmp_path: Path) -> None:
    found: list[BaseException] = []

    def work() -> None:
        try:
            with run_lock(tmp_path):
                pass
        except FolderInUseError as error:
            found.append(error)

    with run_lock(tmp_path):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert f"process {os.getpid()}" in str(found[0])
    with run_lock(tmp_path):  # and it is free again
        pass


def test_an_error_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="broken"), run_lock(tmp_path):
        raise RuntimeError("broken")
    with run_lock(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()


def test_a_file_is_no_folder_to_work_in(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be made a folder"), run_lock(tmp_path / "file"):
        pass


def test_what_writes_nothing_leaves_no_folder(tmp_path: Path) -> None:
    with run_lock(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()
    with run_lock(tmp_path / "new"):
        (tmp_path / "new" / "file").touch()
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["file"]
