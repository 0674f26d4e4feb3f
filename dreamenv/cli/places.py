"""Where a verb writes, checked before its work begins, so that nothing is played or fitted in vain."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from dreamenv.errors import ConfigurationError

VIDEO_ENDINGS = (".mp4", ".gif")


def folder(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Of an option that names a folder: it can be written to, or made.

    Raises:
        ConfigurationError: A file is in its place or on the way to it, or it may not be written to.
    """
    if value is not None:
        _check_folder(param, value, value)
    return value


def file(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Of an option that names a file: it can be written; `-` is standard output.

    Raises:
        ConfigurationError: A folder has that name, or the file's own folder may not be written to.
    """
    if value is not None and str(value) != "-":
        if value.is_dir():
            raise ConfigurationError(f"{param.opts[0]} {value}: this is a folder; expected the name of a file")
        _check_folder(param, value, value.parent)
    return value


def file_ending(*endings: str) -> Callable[[typer.CallbackParam, Any], Any]:
    """As `file`, for a file whose name must have one of the endings.

    Raises:
        ConfigurationError: Also for another ending.
    """

    def check(param: typer.CallbackParam, value: Path | None) -> Path | None:
        if value is not None and value.suffix not in endings:
            raise ConfigurationError(
                f"{param.opts[0]} {value}: expected a name that ends in {' or '.join(endings)}, "
                f"such as {value.with_suffix(endings[0])}"
            )
        return file(param, value)

    return check


def _check_folder(param: typer.CallbackParam, value: Path, folder: Path) -> None:
    """The nearest part of `folder` that is there must be a folder in which something can be made."""
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if not there.is_dir():
        raise ConfigurationError(f"{param.opts[0]} {value}: {there} is a file; expected a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{param.opts[0]} {value}: no permission to write in {there}; name another place")
