"""An error as the one line that the command line shows for it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from dreamenv.errors import DreamEnvError, StorageError
from dreamenv.files import NOT_WRITABLE

# What the machine refuses; other errors of the system point to a bug and keep their traceback
_REFUSALS = {*NOT_WRITABLE, errno.EFBIG, errno.EMFILE, errno.ENAMETOOLONG, errno.ENOENT}
# HDF5 writes the system's answer into the middle of a long message
_HDF5 = re.compile(r"errno = (\d+), error message = '([^']+)'")
_HDF5_FILE = re.compile(r"(?:filename|name) = '([^']+)'")


def one_line(error: BaseException) -> str | None:
    """The line to show for an error that the user can do something about; None for one that only we can.

    Args:
        error: As it reached the command line. A full disk may be hidden in its causes.
    """
    if isinstance(error, DreamEnvError):
        return str(error)
    # What typer raises for a wrong call
    if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
        return error.format_message() + _hint(error)
    return _cause(error)


def is_refusal(error: BaseException) -> bool:
    """Whether the system has refused to write: what has been written before is whole."""
    return isinstance(error, StorageError) or (not isinstance(error, DreamEnvError) and _cause(error) is not None)


def _cause(error: BaseException) -> str | None:
    return next((line for part in _chain(error) if (line := _refusal(part)) is not None), None)


def _refusal(error: BaseException) -> str | None:
    """What the system has refused, by the error that carries its answer."""
    hdf5 = _HDF5.search(str(error))
    if hdf5 is not None and int(hdf5[1]) in _REFUSALS:
        file = _HDF5_FILE.search(str(error))
        return f"{file[1]}: {hdf5[2]}" if file else hdf5[2]
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        answer = error.strerror or os.strerror(error.errno)
        return answer if error.filename is None else f"{error.filename}: {answer}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _hint(error: BaseException) -> str:
    """Which ids there are, where the id is what is missing."""
    parameter = getattr(error, "param", None)
    metavar = str(getattr(parameter, "metavar", ""))
    if type(error).__name__ != "MissingParameter" or not metavar.startswith("ID"):
        return ""
    from dreamenv.registry import entries

    folder = " or the folder of a bundle" if "BUNDLE" in metavar else ""
    return f" Give the id of a dream{folder}; registered: {', '.join(entries())}"
