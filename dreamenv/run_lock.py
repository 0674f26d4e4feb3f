"""One process at a time in a run's folder: a lock that says who holds it and ends with its process."""

from __future__ import annotations

import errno
import fcntl
import functools
import inspect
import json
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from dreamenv.errors import FolderInUseError
from dreamenv.files import raise_storage_error, writable_folder
from dreamenv.main_guard import refuse_unguarded

LOCK_FILE = ".lock"
_TAKEN = {errno.EWOULDBLOCK, errno.EACCES}
P = ParamSpec("P")
ResultT = TypeVar("ResultT")


@contextmanager
def run_lock(folder: str | Path) -> Iterator[None]:
    """Within it, no other process and no other thread writes in `folder`; whoever reads there is not kept out.

    The system gives the lock back when the process ends, however it ends.

    Raises:
        FolderInUseError: Somebody else holds it; the message names process, command and begin.
        StorageError: The folder cannot be written to.
        ConfigurationError: A spawned process imports a script that works in a folder whenever it is imported.
    """
    refuse_unguarded()  # else the parent, which holds the lock, would be blamed
    new = not Path(folder).exists()
    file = writable_folder(folder) / LOCK_FILE
    number = _locked(file)
    try:
        yield
    finally:
        if number is not None:
            # Removed while it is held: whoever waits for this file takes another one instead
            file.unlink(missing_ok=True)
            os.close(number)
        if new:
            with suppress(OSError):  # what was refused before it wrote anything leaves no folder behind
                file.parent.rmdir()


def alone_in(parameter: str) -> Callable[[Callable[P, ResultT]], Callable[P, ResultT]]:
    """A function that works in the folder of its argument `parameter`, within `run_lock`."""

    def decorate(function: Callable[P, ResultT]) -> Callable[P, ResultT]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(*args: P.args, **kwargs: P.kwargs) -> ResultT:
            with run_lock(signature.bind(*args, **kwargs).arguments[parameter]):
                return function(*args, **kwargs)

        return locked

    return decorate


def _locked(file: Path) -> int | None:
    """The open lock file; None where the file system knows no locks, which is told by a warning."""
    while True:
        try:
            number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise_storage_error(error, file)
            raise
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(number)
            os.close(number)
            if error.errno in _TAKEN:
                raise FolderInUseError(
                    f"{file.parent} is in use by {holder}. Wait for it, or take another folder."
                ) from error
            message = f"{file}: cannot be locked ({error.strerror}); see to it that nobody else works there"
            warnings.warn(message, stacklevel=5)
            return None
        if _is_still(file, number):
            _write_holder(number)
            return number
        os.close(number)  # it was removed by its last holder meanwhile


def _is_still(file: Path, number: int) -> bool:
    try:
        return os.path.samestat(file.stat(), os.fstat(number))
    except FileNotFoundError:
        return False


def _write_holder(number: int) -> None:
    holder = {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(sys.argv)[:200],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    with suppress(OSError):  # on a full disk the lock holds all the same, only without a name
        os.ftruncate(number, 0)
        os.pwrite(number, json.dumps(holder).encode(), 0)


def _holder(number: int) -> str:
    try:
        found = json.loads(os.pread(number, 4096, 0))
        since = f"process {found['process']} on {found['host']} since {found['since']}"
        return f"{since} ({found['command']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
