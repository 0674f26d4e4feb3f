"""The command line in this process, through its own parser."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from dreamenv.cli import load_verbs


def call(*arguments: str | Path) -> Result:
    """Run `dreamenv ARGUMENTS`; an error of the verb is raised here."""
    return CliRunner().invoke(load_verbs(), [*map(str, arguments)], catch_exceptions=False)
