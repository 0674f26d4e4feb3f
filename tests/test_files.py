"""Files are replaced whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import stat
from pathlib import Path

import pytest

from dreamenv.errors import StorageError
from dreamenv.files import (
    atomic,
    fingerprint,
    parse_yaml,
    read_json,
    sha256_of,
    writable_folder,
    write_bytes,
    write_json,
    write_text,
    yaml_text,
)


@pytest.mark.parametrize("name", ["video.mp4", "no_suffix", ".hidden"])
def test_an_error_leaves_the_old_content_and_nothing_else(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    write_text(file, "old")

    def interrupted() -> None:
        with atomic(file) as temporary:
            assert temporary.parent == tmp_path
            assert file.suffix in ("", temporary.suffix)
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_content_is_read_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with atomic(file) as temporary:
        temporary.write_text('{"a": 2')
        assert read_json(file) == {"a": 1}
        temporary.write_text('{"a": 2}')
    assert read_json(file) == {"a": 2}


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"a")
    (tmp_path / "b").write_bytes(b"b")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"]
    assert modes[0] == modes[1]


def test_hashes(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"content")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()
    assert fingerprint([b"con", b"tent"]) == hashlib.sha256(b"content").hexdigest()[:16]
    assert fingerprint({"a": b"1", "b": b"2"}) == fingerprint({"b": b"2", "a": b"1"})
    assert len({fingerprint({"a": b"1"}), fingerprint({"b": b"1"}), fingerprint({"a": b"2"})}) == 3


def test_a_place_that_cannot_be_written_to_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "whatever the system says")

    monkeypatch.setattr("dreamenv.files.os.fsync", full)
    with pytest.raises(StorageError, match=r"figures\.json: cannot be written: No space left"):
        write_json(tmp_path / "figures.json", {})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="file: cannot be made a folder"):
        writable_folder(tmp_path / "file")


def test_numbers_of_yaml_have_exponents_and_hashes_are_text() -> None:
    kept = {"small": 1e-4, "hash": "0182e03d4f5add8e", "text": ["1e3", "1e-4", "12", "1.5", "null", "-"], "dots": 1.5}
    assert parse_yaml(yaml_text(kept)) == kept
    assert parse_yaml(yaml_text(kept, flow=True)) == kept
    assert "\n" not in yaml_text(kept, flow=True).strip()
    assert list(parse_yaml(yaml_text({"b": 1, "a": 2}))) == ["b", "a"]
    assert parse_yaml("{a: 1e-4, b: 3E5, c: -2.5e+1, d: 1e3f, e: e5, f: 0182e03d4f}") == {
        "a": 1e-4,
        "b": 3e5,
        "c": -25.0,
        "d": "1e3f",
        "e": "e5",
        "f": "0182e03d4f",
    }
