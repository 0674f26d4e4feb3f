"""Episodes on their way to the disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.writing import Writing


class Disk(EpisodeStore):
    """Writes nothing before `ready`, and fails at episode `broken`."""

    def __init__(self, path: Path, *, broken: int | None = None) -> None:
        super().__init__(path)
        self.ready, self.broken = threading.Event(), broken

    def put(self, index: int, content: bytes) -> Path:
        assert self.ready.wait(60)
        if index == self.broken:
            raise OSError(28, "No space left on device")
        return super().put(index, content)


def test_several_are_written_at_a_time_and_all_are_there_behind_the_block(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    with Writing(disk) as writing:
        for index in range(20):
            writing.put(index, bytes([index]))  # waits for none of them
        disk.ready.set()
    assert [file.read_bytes() for file in disk.files()] == [bytes([index]) for index in range(20)]


def test_the_folder_that_is_meant_is_that_of_the_store_s_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.chdir(tmp_path)
    with Writing(EpisodeStore("episodes")) as writing:
        monkeypatch.chdir(tmp_path / "scratch")  # as Doom's reset does for a moment
        writing.put(0, b"0")
    assert [file.read_bytes() for file in EpisodeStore(tmp_path / "episodes").files()] == [b"0"]
    assert not list((tmp_path / "scratch").iterdir())


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamenv.data.writing._MOST_WAITING", 3)
    disk, begun = Disk(tmp_path), []

    def put_all(writing: Writing) -> None:
        for index in range(5):
            writing.put(index, b"x")
            begun.append(index)

    with Writing(disk) as writing:
        thread = threading.Thread(target=put_all, args=(writing,))
        thread.start()
        while len(begun) < 3:
            thread.join(0.01)
        thread.join(0.2)  # time for one that is not bounded to go on
        assert begun == [0, 1, 2]
        disk.ready.set()
        thread.join(60)
    assert len(disk) == 5


@pytest.mark.parametrize("broken", [0, 4])
def test_a_full_disk_is_told(tmp_path: Path, broken: int) -> None:
    disk = Disk(tmp_path, broken=broken)
    disk.ready.set()
    with pytest.raises(OSError, match="No space left"), Writing(disk) as writing:  # noqa: PT012
        for index in range(5):
            writing.put(index, b"x")


def test_an_error_of_the_block_is_not_hidden_by_one_of_the_disk(tmp_path: Path) -> None:
    disk: Any = Disk(tmp_path, broken=0)
    disk.ready.set()
    with pytest.raises(KeyboardInterrupt), Writing(disk) as writing:  # noqa: PT012
        writing.put(0, b"x")
        raise KeyboardInterrupt
