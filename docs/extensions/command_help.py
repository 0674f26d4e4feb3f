"""The help texts of the command line, verb by verb."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import typer
from typer.testing import CliRunner

import dreamenv.cli


def verbs() -> Iterator[tuple[str, str]]:
    """Each verb with what its `--help` prints, by name; the verbs of a group follow it."""
    for module in pkgutil.iter_modules(dreamenv.cli.__path__):
        importlib.import_module(f"dreamenv.cli.{module.name}")
    group: Any = typer.main.get_command(dreamenv.cli.app)
    for name in sorted(group.commands):
        yield from _help(group.commands[name], name)


def _help(command: Any, *path: str) -> Iterator[tuple[str, str]]:
    result = CliRunner().invoke(dreamenv.cli.app, [*path, "--help"], prog_name="dreamenv", env={"COLUMNS": "100"})
    yield f"dreamenv {' '.join(path)}", result.stdout.strip()
    for name in sorted(getattr(command, "commands", {})):
        yield from _help(command.commands[name], *path, name)
