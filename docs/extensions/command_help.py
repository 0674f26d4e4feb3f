"""The help texts of the command line, verb by verb."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from dreamenv.cli import app, load_verbs


def verbs() -> Iterator[tuple[str, str]]:
    """Each verb with what its `--help` prints, by name; the verbs of a group follow it."""
    group: Any = typer.main.get_command(load_verbs())
    for name in sorted(group.commands):
        yield from _help(group.commands[name], name)


def _help(command: Any, *path: str) -> Iterator[tuple[str, str]]:
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="dreamenv", env={"COLUMNS": "100"})
    yield f"dreamenv {' '.join(path)}", result.stdout.strip()
    for name in sorted(getattr(command, "commands", {})):
        yield from _help(command.commands[name], *path, name)
