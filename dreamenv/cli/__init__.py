"""The command line: one thin command a verb."""

from __future__ import annotations

import sys

import typer

from dreamenv.errors import DreamEnvError

app = typer.Typer(
    name="dreamenv",
    help="A trained world model is a Gymnasium environment: collect, train, evolve, score.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of `dreamenv`: errors of this package are shown as one line, Ctrl-C leaves a resumable run."""
    from dreamenv.cli import (  # noqa: F401  (importing registers the verbs)
        bench,
        collect,
        demo,
        evolve,
        learn,
        play,
        publish,
        score,
        show,
        train,
    )

    try:
        app(standalone_mode=False)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        print("stopped; the same command continues from the last checkpoint", file=sys.stderr)
        sys.exit(130)
    except DreamEnvError as error:
        print(f"dreamenv: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "format_message"):
            print(f"dreamenv: {error.format_message()}", file=sys.stderr)
            sys.exit(2)
        raise
