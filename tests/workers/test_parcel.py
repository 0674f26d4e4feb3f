"""What travels to a worker."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import numpy
import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.workers import Parcel
from dreamenv.workers import parcel as module
from dreamenv.workers.luggage import own_modules


def test_a_folder_is_laid_out_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "within" / "__pycache__").mkdir(parents=True)
    (source / "one.bin").write_bytes(bytes(range(256)))
    (source / "within" / "empty").touch()
    (source / "within" / "__pycache__" / "old.pyc").write_bytes(b"x")
    parcel = pickle.loads(pickle.dumps(Parcel.of(source, without="__pycache__")))  # noqa: S301
    assert parcel.size == 256
    placed = parcel.lay_out(tmp_path / "target")
    assert placed == tmp_path / "target" / "source"
    found = {file.relative_to(placed).as_posix(): file.read_bytes() for file in placed.rglob("*") if file.is_file()}
    assert found == {"one.bin": bytes(range(256)), "within/empty": b""}


def test_a_file_and_an_empty_folder_are_parcels_too(tmp_path: Path) -> None:
    (tmp_path / "agent.zip").write_bytes(b"weights")
    (tmp_path / "nothing").mkdir()
    target = tmp_path / "target"
    assert Parcel.of(tmp_path / "agent.zip").lay_out(target).read_bytes() == b"weights"
    assert list(Parcel.of(tmp_path / "nothing").lay_out(target).iterdir()) == []


def test_what_is_missing_or_too_large_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no such file or folder"):
        Parcel.of(tmp_path / "gone")
    (tmp_path / "large").write_bytes(bytes(11))
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    with pytest.raises(ConfigurationError, match="11 bytes to send to each node; expected at most 10"):
        Parcel.of(tmp_path)


def test_the_users_own_modules_are_those_that_nobody_has_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_single_module.py").touch()
    (tmp_path / "own_package" / "part").mkdir(parents=True)
    (tmp_path / "own_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    names = [
        "own_single_module", "own_package.part.deep", "json", "sys", numpy.__name__, "dreamenv.data", "__main__",
        "no_such_module_anywhere", pytest.__name__,
    ]  # fmt: skip
    assert own_modules(names) == {
        "own_package": (tmp_path / "own_package").resolve(),
        "own_single_module": (tmp_path / "own_single_module.py").resolve(),
    }
    assert "own_package" not in sys.modules
