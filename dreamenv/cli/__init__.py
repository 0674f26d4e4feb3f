"""The command line: one thin command a verb."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from typing import Annotated

import typer

from dreamenv.cli.overview import START, Verbs
from dreamenv.cli.problems import is_refusal, one_line
from dreamenv.cli.stopping import INTERRUPTED, TERMINATED, unwinding
from dreamenv.cli.streams import prepare_streams

# What these verbs have begun, the same command continues
_RESUMABLE = {"collect", "train", "evolve", "train-agent", "loop", "mbpo", "distill", "demo", "reproduce"}

app = typer.Typer(
    name="dreamenv",
    cls=Verbs,
    help=f"Trained world models as Gymnasium environments.\n\n{START}\n\nMore on a verb: dreamenv VERB --help",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from dreamenv import __version__

        print(f"dreamenv {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """See `help` of `app`."""


def load_verbs() -> typer.Typer:
    """The app with all its verbs: importing a file of this folder registers the file's verb."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return app


def main() -> None:
    """Entry point of `dreamenv`.

    An error that the user can do something about is shown as one line. Ctrl-C and SIGTERM leave a run that the same
    command continues, where the verb is one of those. Modules of the current folder can be imported, so that
    `module:Id` names an environment of the user's own.
    """
    prepare_streams()
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with unwinding():
        _main()


def _main() -> None:
    try:
        load_verbs()
        # Without standalone mode typer returns the status of an exit; newer versions turn Ctrl-C into status 130
        status = app(_arguments(sys.argv[1:]), prog_name="dreamenv", standalone_mode=False) or 0
    except typer.Exit as leave:
        status = leave.exit_code
    except SystemExit as leave:
        if leave.code != TERMINATED:
            raise
        status = TERMINATED
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except Exception as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(getattr(error, "message", error))
            return
        line = one_line(error)
        if line is None:
            raise
        print(f"dreamenv: {line}{_continues() if is_refusal(error) else ''}", file=sys.stderr)
        sys.exit(2)
    if status in (INTERRUPTED, TERMINATED):
        print(f"stopped{_continues()}", file=sys.stderr)
    if status:
        sys.exit(status)


def _arguments(given: list[str]) -> list[str]:
    """What was typed; no verb and `help [VERB]` ask for help."""
    if given[:1] == ["help"]:
        return [*given[1:], "--help"]
    return given or ["--help"]


def _continues() -> str:
    return "; the same command continues from the last checkpoint" if _RESUMABLE & set(sys.argv[1:2]) else ""
