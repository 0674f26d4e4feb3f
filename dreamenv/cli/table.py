"""Tables in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 100_000


def print_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[str] = (),
    file: TextIO | None = None,
) -> None:
    """Print `rows` under `titles`: on a terminal within its width, in a pipe or a file one whole line a row.

    Args:
        titles: One a column.
        rows: A cell for each title.
        numbers: Titles of the columns that are aligned on the right.
        file: Where to print; standard output by default.
    """
    file = file or sys.stdout
    # A cell is text: no markup, no emoji, no colours for what looks like a number or a path
    plain: dict[str, Any] = {"file": file, "markup": False, "emoji": False, "highlight": False}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in titles:
        table.add_column(title, justify="right" if title in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    if file.isatty():
        Console(**plain).print(table)
        return
    table.box, table.padding = None, (0, 2, 0, 0)
    console = Console(**plain, force_terminal=False, color_system=None, width=_WIDEST)
    console.width = Measurement.get(console, console.options, table).maximum
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        print(line.rstrip(), file=file)
