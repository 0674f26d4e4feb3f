"""Files that are either whole or not there, and files that are read with care: JSON, YAML, hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from dreamenv.errors import StorageError

# Bytes that a JSON or YAML file of ours never reaches; pictures and tensors are in other files.
MOST_JSON, MOST_YAML = 64 << 20, 1 << 20
_DEEPEST = 100
_MOST_YAML_NODES = 100_000
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
    temporary = file.with_name(f".{file.stem}.{os.getpid()}-{threading.get_native_id()}.part{file.suffix}")
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


def create_json(file: str | Path, content: Any) -> bool:
    """Write `content` as JSON, whole or not at all, unless `file` is there already; whether it was written.

    Of several processes that do so at once, one succeeds.

    Raises:
        StorageError: No space is left, or the folder cannot be written to.
    """
    file = Path(file)
    temporary = file.with_name(f".{file.stem}.{os.getpid()}-{threading.get_native_id()}.part{file.suffix}")
    try:
        write_json(temporary, content)
        os.link(temporary, file)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def sweep(folder: str | Path) -> None:
    """Remove what `atomic` has left in `folder` of processes that were killed."""
    for part in Path(folder).glob(".*.part*"):
        number = part.name.rpartition(".part")[0].rpartition(".")[2].partition("-")[0]
        if number.isdigit() and not _is_running(int(number)):
            part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def read_bytes(file: str | Path, *, most: int = MOST_JSON) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        OSError: It cannot be read, or is no regular file (a pipe or a device would never end).
        ValueError: It is larger; nothing of it has been read.
    """
    # Without O_NONBLOCK, opening a pipe waits for its writer
    number = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as opened:
        found = os.fstat(opened.fileno())
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(file))
        if found.st_size > most:
            raise ValueError(f"{found.st_size:,} bytes, expected at most {most:,}")
        # The size again: a file that grows meanwhile is not followed
        return opened.read(found.st_size)


def read_json(file: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: As `parse_json`, or it is too large.
    """
    return parse_json(read_bytes(file))


def parse_json(content: bytes | str) -> Any:
    """JSON in UTF-8, in which no object has a key twice and nothing is nested deeper than a hundred times.

    Raises:
        ValueError: It is not.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        found = json.loads(text, object_pairs_hook=_without_doubles)
        _check_depth(found)
    except RecursionError as error:
        raise ValueError(f"nested more than {_DEEPEST} times") from error
    return found


def read_yaml(file: str | Path) -> Any:
    """The content of a YAML file of plain values; `1e-4` is a number, as in YAML 1.2.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not YAML in UTF-8, has a key twice, is nested too deeply, or grows by its aliases beyond a
            hundred thousand values.
    """
    return parse_yaml(read_bytes(file, most=MOST_YAML).decode("utf-8"))


def parse_yaml(text: str) -> Any:
    """The content of a YAML text of plain values.

    Raises:
        ValueError: As by `read_yaml`.
    """
    try:
        found = yaml.load(text, Loader=_CarefulLoader)
        _expanded_size(found, {}, ())
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError(f"nested more than {_DEEPEST} times") from error
    return found


def yaml_text(value: Any, *, flow: bool = False) -> str:
    """Plain values as YAML, which `parse_yaml` reads as they were; keys keep their order.

    Args:
        value: Numbers, text, lists and dicts.
        flow: In one line, as inside of another text.
    """
    width = 10_000 if flow else None
    return yaml.dump(value, Dumper=_CarefulDumper, sort_keys=False, default_flow_style=flow, width=width)


def sha256_of(file: str | Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with Path(file).open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise ValueError(f"key {next(key for key, _ in pairs if key in seen or seen.add(key))!r} appears twice")  # type: ignore[func-returns-value]
    return found


def _check_depth(found: Any) -> None:
    level = [found]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, (dict, list))
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"nested more than {_DEEPEST} times")


class _CarefulLoader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that appears twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} appears twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


class _CarefulDumper(yaml.SafeDumper):
    """YAML's safe dumper, which puts in quotes what `_CarefulLoader` would not read as text."""


# PyYAML keeps to YAML 1.1, where a number with an exponent is text unless it has a point and the exponent a sign
for _side in (_CarefulLoader, _CarefulDumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _expanded_size(found: Any, known: dict[int, int], above: tuple[int, ...]) -> int:
    """Values in `found` with each alias written out."""
    if not isinstance(found, (dict, list)):
        return 1
    if id(found) in above:
        raise ValueError("an alias refers to what it is part of")
    if len(above) > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} times")
    if id(found) not in known:
        inner = found.values() if isinstance(found, dict) else found
        known[id(found)] = 1 + sum(_expanded_size(each, known, (*above, id(found))) for each in inner)
        if known[id(found)] > _MOST_YAML_NODES:
            raise ValueError(f"its aliases stand for more than {_MOST_YAML_NODES:,} values")
    return known[id(found)]
