"""The examples with their first words, how long they take, and which one comes before."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from dream_facts import DOCS, table

FOLDER = DOCS.parent / "examples"


def examples() -> str:
    """A table of all examples, as Markdown; a file's docstring tells what it shows, how to call it, and its time.

    Raises:
        LookupError: A docstring without a first sentence, a command or a time.
    """
    rows = [
        [f"`{file.name}`", _shows(file), _before(file), _time(file)] for file in sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    ]
    return table(("example", "what it shows", "after", "takes"), rows)


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _shows(file: Path) -> str:
    text = " ".join(_docstring(file).partition("\n\n")[0].split())
    if not text:
        raise LookupError(f"{file.name} does not tell what it shows")
    return text


def _before(file: Path) -> str:
    found = re.search(r"^Run first: (\S+)", _docstring(file), re.MULTILINE)
    return f"`{found[1]}`" if found else ""


def _time(file: Path) -> str:
    found = re.search(r"^Takes: (.+)\.$", _docstring(file), re.MULTILINE)
    if found is None:
        raise LookupError(f"{file.name} does not tell how long it takes")
    return found[1]
