"""What verbs print: tables that fit a terminal and are whole in a pipe, figures as JSON."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from dreamenv.cli.output import Output
from dreamenv.cli.table import print_table

TITLES = ("policy", "real frames", "note")
ROWS = (("[red] :smile: 1.5", "1,000", "word " * 60), ("é", "2", "-"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_pipe_a_row_is_one_whole_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    file = io.StringIO()
    print_table(TITLES, ROWS, numbers=("real frames",), file=file)
    assert file.getvalue().splitlines() == [
        "policy             real frames  note",
        f"[red] :smile: 1.5        1,000  {'word ' * 60}".rstrip(),
        "é                            2  -",
    ]


def test_on_a_terminal_a_table_fits_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    print_table(TITLES, ROWS, file=file)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert max(map(len, shown.splitlines())) == 60
    assert shown.count("word") == 60
    assert "[red] :smile: 1.5" in shown


def test_lines_leave_standard_output_to_the_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for json_file in (None, tmp_path / "new" / "figures.json", Path("-")):
        output = Output(json_file)
        output.line("a line")
        output.table(TITLES, ROWS)
        output.figures({"mean": 1.5})
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == "a line"
    assert printed.err.count("real frames") == 1
    for_people, _, figures = printed.out.partition("{")
    assert (for_people.count("a line"), for_people.count("real frames")) == (2, 2)
    assert json.loads("{" + figures) == json.loads((tmp_path / "new" / "figures.json").read_text()) == {"mean": 1.5}
