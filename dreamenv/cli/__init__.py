"""The command line: one thin command a verb."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from dreamenv.errors import DreamEnvError

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
    """Entry point of `dreamenv`: errors of this package are shown as one line, Ctrl-C leaves a resumable run."""
    load_verbs()
    try:
        # Without standalone mode typer returns the status of an exit; newer versions turn Ctrl-C into status 130
        status = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except typer.Exit as leave:
        status = leave.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    except DreamEnvError as error:
        print(f"dreamenv: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            print(f"dreamenv: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise
    if status == _INTERRUPTED:
        goes_on = "; the same command continues from the last checkpoint" if _RESUMABLE & set(sys.argv[1:2]) else ""
        print(f"stopped{goes_on}", file=sys.stderr)
    if status:
        sys.exit(status)
