"""Files that are either whole or not there: atomic writing, JSON, hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dreamenv.errors import StorageError

# A place that cannot be written to, which is nobody's bug
NOT_WRITABLE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}


def writable_folder(path: str | Path) -> Path:
    """The folder `path`, made where it is missing.

    Raises:
        StorageError: It cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(error.errno, f"cannot be made a folder: {error.strerror}", str(path)) from error
    return Path(path)


def raise_storage_error(error: OSError, file: str | Path) -> None:
    """Raise a `StorageError` about `file` where `error` says that the place cannot be written to."""
    if error.errno in NOT_WRITABLE and not isinstance(error, StorageError):
        raise StorageError(error.errno, f"cannot be written: {os.strerror(error.errno or 0)}", str(file)) from error


@contextmanager
def atomic(file: str | Path) -> Iterator[Path]:
    """A path to write to, in the same folder, that takes the place of `file` when the block ends without an error.

    Whoever reads `file` meanwhile sees the old content, and an error or a kill leaves it as it was. The temporary name
    keeps the suffix of `file`, from which writers of videos and archives tell the format.

    Raises:
        StorageError: No space is left, or the folder cannot be written to.
    """
    file = Path(file)
    temporary = file.with_name(f".{file.stem}.{os.getpid()}.part{file.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, file)
    except BaseException as error:
        with suppress(OSError):  # where nothing can be written nothing can be removed
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise_storage_error(error, file)
        raise


def write_bytes(file: str | Path, content: bytes) -> None:
    """Replace `file` by `content`, atomically."""
    with atomic(file) as temporary:
        temporary.write_bytes(content)


def write_text(file: str | Path, content: str) -> None:
    """Replace `file` by `content` in UTF-8, atomically."""
    with atomic(file) as temporary:
        temporary.write_text(content, encoding="utf-8")


def write_json(file: str | Path, content: Any) -> None:
    """Replace `file` by `content` as JSON, atomically."""
    write_text(file, json.dumps(content, indent=2) + "\n")


def read_json(file: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON in UTF-8.
    """
    return json.loads(Path(file).read_text(encoding="utf-8"))


def sha256_of(file: str | Path) -> str:
    """Hexadecimal sha256 of a file."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def fingerprint(parts: Mapping[str, bytes] | Iterable[bytes]) -> str:
    """Sixteen hexadecimal digits that change with any of the parts; of named parts with their names too, in order."""
    digest = hashlib.sha256()
    if isinstance(parts, Mapping):
        for name in sorted(parts):
            digest.update(name.encode())
            digest.update(parts[name])
    else:
        for part in parts:
            digest.update(part)
    return digest.hexdigest()[:16]
