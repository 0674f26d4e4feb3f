"""The command line: one thin command a verb."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import typer

from dreamenv.cli.streams import prepare_streams
from dreamenv.errors import DreamEnvError, StorageError
from dreamenv.files import NOT_WRITABLE

_INTERRUPTED = 130
# What these verbs have begun, the same command continues
_RESUMABLE = {"collect", "train", "evolve", "train-agent", "loop", "demo", "reproduce"}

app = typer.Typer(
    name="dreamenv",
    help="A trained world model is a Gymnasium environment: collect, train, evolve, score.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def load_verbs() -> typer.Typer:
    """The app with all its verbs: importing a file of this folder registers the file's verb."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return app


def main() -> None:
    """Entry point of `dreamenv`: errors of this package are shown as one line, Ctrl-C leaves a resumable run.

    Modules of the current folder can be imported, so that `module:Id` names an environment of the user's own.
    """
    prepare_streams()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    load_verbs()
    try:
        # Without standalone mode typer returns the status of an exit; newer versions turn Ctrl-C into status 130
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except typer.Exit as leave:
        status = leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except Exception as error:
        line = _line_for(error)
        if line is None:
            raise
        print(f"dreamenv: {line}", file=sys.stderr)
        sys.exit(2)
    if status == _INTERRUPTED:
        print(f"stopped{_continues()}", file=sys.stderr)
    if status:
        sys.exit(status)


def _line_for(error: Exception) -> str | None:
    """What an error is shown as that is no bug of this package; None for one that is."""
    if isinstance(error, DreamEnvError):
        return f"{error}{_continues() if isinstance(error, StorageError) else ''}"
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        return f"{error.filename}: {error.strerror}{_continues()}" if error.filename else f"{error}{_continues()}"
    if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
        return str(error.format_message())
    return None


def _continues() -> str:
    return "; the same command continues from the last checkpoint" if _RESUMABLE & set(sys.argv[1:2]) else ""
