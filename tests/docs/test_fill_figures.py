"""Figures in README.md and docs/ are the stored ones, and no other number of a page is a measurement."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from dreamenv.workflows.published import read_figures
from tests.docs.site import DOCS

tool = SimpleNamespace(**runpy.run_path(str(DOCS / "fill_figures.py")))
SHIPPED = read_figures()


@pytest.mark.parametrize("page", tool.PAGES, ids=lambda page: page.relative_to(DOCS.parent).as_posix())
def test_pages_are_filled_from_what_is_stored(page: Path) -> None:
    assert tool.problems(page, SHIPPED) == []


def test_results_are_marked_in_the_readme() -> None:
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    for dream, short in (("DreamDoom-v0", "doom"), ("DreamCarRacing-v0", "car")):
        assert dream in text
        for figure in (f"{short}-score", f"{short}-random"):
            assert f"<!--{figure}: mean std low high-->" in text


@pytest.fixture
def known(tmp_path: Path) -> Any:
    """One entry with a part, a benchmark and a loop, published, and one that is not."""
    entry = "runner: {}, minutes: 1, commands: [dreamenv list]"
    lines = [
        f"  {name}: {{what: x, {entry.format(runner)}}}"
        for name, runner in (("own", "eval"), ("speed", "bench"), ("rounds", "loop"), ("later", "eval"))
    ]
    (tmp_path / "figures.yaml").write_text("\n".join(["format: 1", "figures:", *lines]), encoding="utf-8")
    score = {"mean": 804.5, "std": 47.04, "ci95": [-0.05, 1234.5], "episodes": 100, "real_frames": 1377593}
    row = {"case": "dream", "num_envs": 1024, "steps_per_s": 2000.4, "bound_steps_per_s": None, "fraction": None}
    ahead = {"number": 2, "real_mean": 7.4, "real_std": 1.5, "dream_mean": 9.0, "real_frames": 4000}
    for name, files in (
        ("own", {"score": score}),
        (
            "speed",
            {
                "bench": [
                    row,
                    row | {"case": "curve hidden 8"},
                    row | {"case": "v", "bound_steps_per_s": 4000.8, "fraction": 0.5},
                ]
            },
        ),
        ("rounds", {"rounds": [ahead], "score": score}),
    ):
        (tmp_path / "stored" / name).mkdir(parents=True)
        for file, content in files.items():
            (tmp_path / "stored" / name / f"{file}.json").write_text(json.dumps(content), encoding="utf-8")
    return read_figures(tmp_path / "figures.yaml")


@pytest.mark.parametrize(
    ("keys", "text", "filled"),
    [
        ("mean std", "**1 ± 2**", "**805 ± 47**"),  # half of a unit goes up
        ("mean std low high", "1.0 ± 2.00 (3 to -4,000)", "804.5 ± 47.04 (0 to 1,235)"),
        ("high", "1", "1235"),
        ("real_frames", "5", "1,377,593"),  # from ten thousand on with separators
        ("std%", "93%", "4704%"),
        ("mean:g episodes", "7 of 3", "804.5 of 100"),
    ],
)
def test_a_marked_text_takes_the_stored_numbers(known: Any, keys: str, text: str, filled: str) -> None:
    page = "a 5 <!--own: {}-->{}<!--/--> | 6"
    assert tool.filled(page.format(keys, text), known) == page.format(keys, filled)
    assert tool.filled(tool.filled(page.format(keys, text), known), known) == page.format(keys, filled)


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        ("<!--owm: mean-->1<!--/-->", "no figure is called 'owm'. Did you mean own"),
        ("<!--own.best: mean-->1<!--/-->", "own has no figure 'best'"),
        ("<!--later: mean-->1<!--/-->", "later: nothing is published yet; run dreamenv reproduce later"),
        ("<!--own: maen-->1<!--/-->", "own: no number is called 'maen'. Did you mean mean"),
        ("<!--own: mean-->1 ± 2<!--/-->", "'1 ± 2' has 2 numbers, its marker names 1"),
        ("<!--own: mean std-->1<!--/-->", "'1' has 1 numbers, its marker names 2"),
        ("<!--table own-->\n<!--/table-->", "no table can be made of 'own'; expected an entry of runner loop or bench"),
    ],
)
def test_a_marker_that_does_not_fit_is_named(known: Any, marked: str, message: str) -> None:
    with pytest.raises(tool.PageError) as error:
        tool.filled(marked, known)
    assert message in str(error.value)


def test_whole_tables(known: Any) -> None:
    page = "x\n\n<!--table {}-->\n{}<!--/table-->\n\ny 1"
    assert tool.filled(page.format("speed", "| old |\n"), known) == page.format(
        "speed",
        "| case | at once | steps/s | bound | fraction |\n|---|---|---|---|---|\n"
        "| dream | 1,024 | 2,000 |  |  |\n| v | 1,024 | 2,000 | 4,001 | 0.50 |\n",
    )
    assert tool.filled(page.format("rounds", ""), known).splitlines()[3:6] == [
        "| round | real frames | dream | real validation |",
        "|---|---|---|---|",
        "| 2 | 4,000 | 9 | 7 ± 2 |",
    ]


def test_numbers_without_a_figure_are_found() -> None:
    page = (
        "# The 12\n`13` and [14](page-15.md) ± 16\n```python\n17\n```\n<!--a: mean-->18<!--/--> <img height=19>\n"
        "over 20\nepisodes, over 20 games, -21.5 s, 22,000 v23\n<!--table x-->\n24\n<!--/table-->\n"
    )
    assert tool.unmarked(page, ["over 20 episodes"]) == [
        (1, "12"), (2, "14"), (2, "16"), (8, "20"), (8, "-21.5"), (8, "22,000"),
    ]  # fmt: skip


def test_a_page_is_checked_against_the_given_numbers(
    known: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tool.problems.__globals__
    monkeypatch.setitem(names, "ROOT", tmp_path)
    monkeypatch.setitem(names, "GIVEN", tmp_path / "given.yaml")
    (tmp_path / "given.yaml").write_text("everywhere: ['\\b20\\d\\d\\b']\npages: {a.md: [at 12, at 99]}\n", "utf-8")
    page = tmp_path / "a.md"
    page.write_text("in 2018, at 12, or 13\n- <!--own: mean-->800<!--/-->", encoding="utf-8")
    assert tool.problems(page, known) == [
        "a.md:1: 13 is neither marked as a figure nor a phrase of docs/given_numbers.yaml",
        "a.md: a line begins with <!--own: mean-->",
        "docs/given_numbers.yaml: a.md has no 'at 99'",
        "a.md: '- <!--own: mean-->800<!--/-->' is stored as '- <!--own: mean-->805<!--/-->'",
    ]


def test_a_run_is_published(known: Any, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "own" / "seed_0"
    run.mkdir(parents=True)
    beside = tmp_path / "runs" / "other-one" / "seed_3"
    presets = "/usr/lib/python3/dreamenv/workflows/published/presets"
    words = f"dreamenv eval {beside}/bundle --config {presets}/a.yaml --json {run}/x"
    command = {"command": words, "ended": False, "seconds": 90.0}
    record: dict[str, Any] = {"name": "own", "seed": 0, "commands": [command, command | {"ended": True}]}
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    score = {"mean": 1.0, "std": 2.0, "ci95": [0, 1], "episodes": 3, "real_frames": None}
    (run / "score.json").write_text(json.dumps(score), encoding="utf-8")
    with pytest.raises(tool.PageError, match="no run of a known entry, with a seed of its own, that has ended"):
        tool.store(run, known)
    assert known["own"].published()[""].mean == 804.5
    record["commands"][0]["ended"] = True
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    folder = tool.store(run, known)
    assert known["own"].published()[""].mean == 1.0
    assert sorted(file.name for file in folder.iterdir()) == ["record.json", "score.json"]
    stored = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    without_paths = "dreamenv eval {other-one}/bundle --config {presets}/a.yaml --json OUT/x"
    assert stored["commands"][0]["command"] == without_paths
    assert tool.filled("<!--own: mean minutes-->0 in 0.0<!--/-->", known) == "<!--own: mean minutes-->1 in 3.0<!--/-->"


def test_a_run_of_another_seed_is_published_where_the_entry_has_that_seed(tmp_path: Path) -> None:
    own = {"what": "a", "runner": "eval", "commands": ["dreamenv eval x"], "minutes": 1, "more_seeds": [1]}
    (tmp_path / "figures.yaml").write_text(yaml.safe_dump({"format": 1, "figures": {"own": own}}), encoding="utf-8")
    known = read_figures(tmp_path / "figures.yaml")
    for seed in (1, 2):
        run = tmp_path / "runs" / "own" / f"seed_{seed}"
        run.mkdir(parents=True)
        record = {
            "name": "own",
            "seed": seed,
            "commands": [{"command": "dreamenv eval x", "ended": True, "seconds": 1}],
        }
        (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
        score = {"mean": float(seed), "std": 2.0, "ci95": [0, 1], "episodes": 3, "real_frames": None}
        (run / "score.json").write_text(json.dumps(score), encoding="utf-8")
    tool.store(tmp_path / "runs" / "own" / "seed_1", known)
    assert known["own-seed-1"].published()[""].mean == 1.0
    assert known["own"].published() == {}
    with pytest.raises(tool.PageError, match="with a seed of its own"):
        tool.store(tmp_path / "runs" / "own" / "seed_2", known)
