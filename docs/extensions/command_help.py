"""The help texts of the command line, verb by verb."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

from dreamenv.cli import app, load_verbs


def verbs() -> dict[str, list[tuple[str, str]]]:
    """By the title of its group each verb with what its `--help` prints; the verbs of a verb follow it."""
    top: Any = typer.main.get_command(load_verbs())
    return {
        title: [found for name in names for found in _help(top.commands[name], name)]
        for title, names in top.grouped().items()
    }


def _help(command: Any, *path: str) -> Iterator[tuple[str, str]]:
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="dreamenv", env={"COLUMNS": "100"})
    yield f"dreamenv {' '.join(path)}", result.stdout.strip()
    for name in sorted(getattr(command, "commands", {})):
        yield from _help(command.commands[name], *path, name)
