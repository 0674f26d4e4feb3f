"""`dreamenv reproduce`: the list, a figure next to the published one, and errors on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamenv.errors import ConfigurationError, FigureListError, ReproductionError, UnknownFigureError
from dreamenv.workflows.published import all_figures, read_figures
from tests.command_line import call

KEYS = {"name", "seed", "real_steps", "real_frames", "mean", "std", "ci95", "episodes", "published", "seconds"}
LIST = """
format: 1
figures:
  counting:
    what: Three numbers
    runner: eval
    read: {counts: {good: {return_above: 5}}}
    commands: ["python -m tests.workflows.counting {out} {seed}"]
    minutes: 1
  history: {what: A model of old, rerun: false, reason: the model is gone}
"""


@pytest.fixture
def own_list(tmp_path: Path) -> str:
    """A list of two figures, of which the first was published with another interval."""
    (tmp_path / "figures.yaml").write_text(LIST, encoding="utf-8")
    (tmp_path / "stored" / "counting").mkdir(parents=True)
    score = {"mean": 1234567.0, "std": 0.25, "ci95": [7.0, 9.0], "episodes": 100, "real_frames": 8}
    (tmp_path / "stored" / "counting" / "score.json").write_text(json.dumps(score), encoding="utf-8")
    return str(tmp_path / "figures.yaml")


@pytest.fixture
def reproduce(own_list: str, tmp_path: Path) -> Callable[..., str]:
    """Reproduce a figure of `own_list` into the folder of the test; returns what is printed."""

    def run(*arguments: str | Path) -> str:
        result = call("reproduce", *arguments, "--figures", own_list, "--out", tmp_path / "runs")
        assert result.exit_code == 0
        return result.stdout

    return run


def cells(out: str, first: str) -> list[list[str]]:
    """The cells of the rows of a table that begin with `first`."""
    rows = [re.split(r"\s{2,}", line) for line in out.splitlines()]
    return [row for row in rows if row[0] == first]


def test_the_list_has_a_row_for_each_entry_and_its_json_every_figure(tmp_path: Path) -> None:
    out = call("reproduce", "--list", "--json", tmp_path / "list.json").stdout
    known = read_figures()
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == list(known)
    assert out.splitlines()[-1].endswith("dreamenv reproduce --list NAME")
    (doom,) = cells(out, "doom-score")
    assert doom[1] == "786.0 ± 507.1 (737.4 to 837.4)"
    (car,) = cells(out, "dreamer-cartpole-swingup")
    assert car[1:3] == ["793.0 ± 44.2 (784.1 to 801.4)", "6"]
    rows = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == [name for name, _, _ in all_figures(known)]


def test_an_entry_is_listed_with_its_commands_and_every_part(tmp_path: Path) -> None:
    out = call("reproduce", "--list", "dreamer-cartpole-swingup-random", "--json", tmp_path / "list.json").stdout
    assert "first runs dreamer-cartpole-swingup-seed-1" in out
    assert "  dreamenv eval {dreamer-cartpole-swingup-seed-1}" in out
    (row,) = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))
    assert row["name"] == "dreamer-cartpole-swingup-random"
    # A part's name lists the entry
    out = call("reproduce", "--list", "ha-schmidhuber-2018.car").stdout
    assert "not again: published by Ha & Schmidhuber 2018" in out
    assert cells(out, "ha-schmidhuber-2018.car")[0][1] == "906 ± 21"
    assert cells(out, "ha-schmidhuber-2018.doom")[0][1] == "1,092 ± 556"


def test_a_list_of_ones_own(own_list: str) -> None:
    out = call("reproduce", "--list", "--figures", own_list).stdout
    assert cells(out, "counting") == [
        ["counting", "1,234,567 ± 0.25 (7 to 9)", "1", "8", "1 min", "Three numbers"],
    ]
    assert cells(out, "history") == [["history", "not yet", "-", "-", "not again", "A model of old"]]
    assert "not again: the model is gone" in call("reproduce", "--list", "history", "--figures", own_list).stdout


def test_a_figure_is_printed_next_to_the_published_one(reproduce: Callable[..., str], tmp_path: Path) -> None:
    out = reproduce("counting", "--seed", "2", "--json", tmp_path / "f.json")
    assert "seed 2: 1,002 steps" in out
    rows = cells(out, "counting")
    assert ["counting", "mean", "1,234,567", "5", "-1.235e+06"] in rows
    assert ["counting", "good", "-", "1", "-"] in rows
    assert "anew 5 ± 2.65 (3 to 8): the 95% intervals overlap" in out
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert found.keys() == KEYS
    assert (found["name"], found["seed"], found["mean"], found["published"]) == ("counting", 2, 5.0, 1234567.0)
    assert (tmp_path / "runs" / "counting" / "seed_2" / "score.json").exists()


def test_intervals_that_do_not_overlap_are_said_to(reproduce: Callable[..., str]) -> None:
    out = reproduce("counting")
    assert "anew 3 ± 2.65 (1 to 6): the 95% intervals do not overlap" in out


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["doom-scor"], UnknownFigureError, "no figure is called 'doom-scor'. Did you mean doom-score"),
        (["doom-gap.rael"], UnknownFigureError, "doom-gap has no figure 'rael'. Did you mean real"),
        ([], ConfigurationError, "--list"),
        (["doom-scor", "--list"], UnknownFigureError, "Did you mean doom-score"),
        (["ha-schmidhuber-2018"], ReproductionError, "cannot be made again: published by Ha & Schmidhuber 2018"),
        (["dyna-q", "--seed", "1"], ConfigurationError, "dyna-q runs with seeds of its own"),
        (["doom-score", "--figures", "none.yaml"], FigureListError, "none.yaml: cannot be read"),
    ],
)
def test_bad_input(arguments: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call("reproduce", *arguments)
    assert message in str(raised.value)
