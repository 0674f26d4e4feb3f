"""What a verb has found: lines and tables for people, figures as JSON for programs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from dreamenv.cli.table import print_table
from dreamenv.files import write_json


class Output:
    """Lines and tables go to standard output; to standard error where the figures go to standard output.

    Args:
        json_file: Of `--json`: None writes no figures, `-` prints them.
    """

    def __init__(self, json_file: Path | None = None) -> None:
        self._json_file = json_file
        self._prints_json = json_file is not None and str(json_file) == "-"

    @property
    def _lines(self) -> Any:
        return sys.stderr if self._prints_json else sys.stdout

    def line(self, text: object) -> None:
        """Print a line at once."""
        print(text, file=self._lines, flush=True)

    def next(self, *words: object) -> None:
        """Print the command that comes next; `words` are those of a command line, the first is the verb."""
        self.line(f"next: {shlex.join(['dreamenv', *map(str, words)])}")

    def table(self, titles: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str] = ()) -> None:
        """Print a table; see `print_table`."""
        print_table(titles, rows, numbers=numbers, file=self._lines)

    def figures(self, content: Any) -> None:
        """Write what `--json` asks for."""
        if self._prints_json:
            print(json.dumps(content, indent=2))
        elif self._json_file is not None:
            self._json_file.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._json_file, content)
