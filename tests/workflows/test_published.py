"""The list of published figures: what is shipped is complete and true to the bundles, and a wrong list is refused."""

from __future__ import annotations

import argparse
import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dreamenv import registry
from dreamenv.cli import load_verbs
from dreamenv.errors import FigureListError, UnknownFigureError
from dreamenv.workflows.published import (
    Figure,
    all_figures,
    find_figure,
    read_figures,
)
from dreamenv.workflows.reproduce import commands_of, script_of

SHIPPED = read_figures()
COMMANDS = [
    pytest.param(words, id=f"{name}-{number}")
    for name, entry in SHIPPED.items()
    for number, words in enumerate(commands_of(entry, entry.section.seed, Path("runs"), SHIPPED))
]


@pytest.fixture(scope="module")
def verbs() -> Any:
    """The command line with all its verbs."""
    return typer.main.get_command(load_verbs())


@pytest.mark.parametrize("entry", SHIPPED.values(), ids=SHIPPED)
def test_every_entry_is_published_or_awaited_and_its_main_part_is_there(entry: Any) -> None:
    parts = entry.published()
    assert entry.section.awaited != bool(parts), "awaited is for entries of which nothing is stored"
    assert entry.section.awaited or entry.section.main in parts
    assert all(figure.numbers() for figure in parts.values())
    assert find_figure(entry.name, SHIPPED) == (entry, entry.section.main)


@pytest.mark.parametrize("name", [name for name, entry in SHIPPED.items() if entry.section.recorded])
def test_what_is_stored_is_what_the_bundle_records(name: str) -> None:
    entry = SHIPPED[name]
    outputs = entry.recorded_outputs()
    assert outputs is not None
    recorded, stored = entry.figures(outputs), entry.published()
    assert recorded.keys() == stored.keys()
    for part, figure in recorded.items():
        assert figure.numbers().items() <= stored[part].numbers().items()


def test_scores_are_recorded_in_the_bundles() -> None:
    for dream, entry in registry.read_registry(registry.shipped_registry_path()).items():
        provenance = json.loads((entry.checkpoint / "config.json").read_text(encoding="utf-8"))["provenance"]
        for key, agent in (("score", ""), ("baseline", " --agent random")):
            command = f"dreamenv eval {dream}{agent} --episodes {provenance[key]['episodes']} --seed {{seed}}"
            scores = [e for e in SHIPPED.values() if e.section.recorded is not None]
            (own,) = [e for e in scores if any(c.startswith(f"{command} --json") for c in e.section.commands)]
            assert own.published()[""].mean == provenance[key]["mean"]
            assert own.section.action_repeat == entry.section.real.action_repeat


@pytest.mark.parametrize(("dream", "name"), [("DreamDoom-v0", "doom-from-nothing"), ("DreamCarRacing-v0", "car-loop")])
def test_from_nothing_is_what_the_model_card_says(dream: str, name: str) -> None:
    card = (registry.find(dream).checkpoint / "README.md").read_text(encoding="utf-8")
    block = card.partition("```bash\n")[2].partition("```")[0].splitlines()
    wanted = [line for line in block if not re.search("--agent random|^dreamenv publish", line)]
    entry = SHIPPED[name]
    commands = [" ".join(words) for words in commands_of(entry, entry.section.seed, Path("runs"), SHIPPED)]
    folder = str(Path("runs").resolve() / name / f"seed_{entry.section.seed}")
    places = {"runs/doom2": f"{folder}/second", "runs/doom": f"{folder}/first", "runs/car": f"{folder}/run"}
    for line, command in zip(wanted, commands, strict=True):
        for short, full in places.items():
            line = re.sub(rf"{short}(?=/| |$)", full, line)
        words, given = line.split(), command.split()
        # The card leaves out seeds of 0 and writes its figures elsewhere
        for option in ("--seed", "--json"):
            if option in given and (option == "--json" or option not in words):
                at = given.index(option)
                del given[at : at + 2]
            if option == "--json" and option in words:
                at = words.index(option)
                del words[at : at + 2]
        assert sorted(words) == sorted(given)


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][0] == "dreamenv"])
def test_verbs_take_the_options_of_the_list(words: list[str], verbs: Any) -> None:
    assert words[1] in verbs.commands, f"no verb is called {words[1]}"
    # Raises at an unknown option, a missing argument, or a value of a wrong type or out of range
    verbs.commands[words[1]].make_context(words[1], words[2:])


class _Parsed(Exception):
    """The arguments of a script have been taken."""


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][0] == "python"])
def test_scripts_take_the_arguments_of_the_list(words: list[str], root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = root / script_of(words)
    assert script.is_file()
    if words[1:3] == ["-m", "pytest"]:
        return
    real = argparse.ArgumentParser.parse_args

    def parse(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        real(parser, *args, **kwargs)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    arguments = words[3:] if words[1] == "-m" else words[2:]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    for package in ("stable_baselines3", "websockets"):
        if package in script.read_text(encoding="utf-8"):
            pytest.importorskip(package)
    with pytest.raises(_Parsed):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("words", [case for case in COMMANDS if case.values[0][0] == "make"])
def test_targets_are_there(words: list[str], root: Path) -> None:
    assert f"\n{words[1]}:" in (root / "Makefile").read_text(encoding="utf-8")


def test_stored_files_belong_to_an_entry_and_name_no_path_of_a_machine() -> None:
    folder = next(iter(SHIPPED.values())).folder.parent
    assert {path.name for path in folder.iterdir()} <= SHIPPED.keys()
    for file in (path for path in folder.rglob("*") if path.is_file()):
        text = file.read_text(encoding="utf-8")
        for name in SHIPPED:  # the folder of an entry that this one needs
            text = text.replace(f"{{{name}}}/", f"{name}/")
        assert not re.search(r"(?<![\w.:/)\]-])/[\w.-]+/[\w./-]+", text), file


def test_every_figure_has_its_own_name() -> None:
    names = [name for name, _, _ in all_figures(SHIPPED)]
    assert len(set(names)) == len(names) > 100
    for name in names:
        entry, part = find_figure(name, SHIPPED)
        assert part in entry.published() or entry.section.awaited


def written(folder: Path, text: str) -> Path:
    file = folder / "figures.yaml"
    file.write_text(f"format: 1\nfigures:\n{text}", encoding="utf-8")
    return file


GOOD = "  a: {what: a, runner: eval, commands: [dreamenv eval x], minutes: 1}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  a: {what: a, runer: eval}\n", r"figures\.a\.runer: unknown key\. Did you mean runner"),
        ("  a: {what: a, runner: evl, commands: [dreamenv eval x], minutes: 1}\n", "'evl' is not known. Did you mean"),
        ("  a: {what: a, runner: eval, minutes: 1}\n", "needs runner, commands and minutes"),
        ("  a: {what: a, rerun: false}\n", "reason says why"),
        (GOOD.replace("minutes", "reason: none, minutes"), "reason says why"),
        (GOOD.replace("  a:", "  A b:"), "'A b' is no name"),
        (GOOD.replace("minutes", "needs: [b], minutes"), "a needs b. Known: a"),
        (GOOD.replace("minutes", "more_seeds: [0], minutes"), "more_seeds holds 0, which is the entry's own seed"),
        (GOOD.replace("minutes", "more_seeds: [1], needs: [b], minutes"), "more_seeds cannot go with needs"),
        (GOOD.replace("minutes", "read: {count: {}}, minutes"), r"a\.read\.count: Extra inputs are not permitted"),
        (
            "  a: {what: a, runner: printed, commands: [make b], minutes: 1, read: {parts: {'': ['(\\d+)']}}}\n",
            "has no named group",
        ),
        ("  a: [\n", "not YAML"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(FigureListError, match=message) as error:
        read_figures(file)
    assert str(file) in str(error.value)


def test_each_further_seed_is_an_entry(tmp_path: Path) -> None:
    known = read_figures(written(tmp_path, GOOD.replace("minutes", "more_seeds: [1, 4], minutes")))
    assert [(name, entry.section.seed, entry.folder.name) for name, entry in known.items()] == [
        ("a", 0, "a"),
        ("a-seed-1", 1, "a-seed-1"),
        ("a-seed-4", 4, "a-seed-4"),
    ]
    assert known["a-seed-1"].section.commands == known["a"].section.commands


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FigureListError, match="holds no list of figures"):
        read_figures(tmp_path)
    with pytest.raises(FigureListError, match="cannot be read"):
        read_figures(tmp_path / "none.yaml")
    written(tmp_path, GOOD)
    (tmp_path / "more.yaml").write_text(f"format: 1\nfigures:\n{GOOD}", encoding="utf-8")
    with pytest.raises(FigureListError, match="a is in the list twice"):
        read_figures(tmp_path)


def test_stored_results_of_another_form_are_named(tmp_path: Path) -> None:
    (entry,) = read_figures(written(tmp_path, GOOD)).values()
    entry.folder.mkdir(parents=True)
    with pytest.raises(FigureListError, match=r"score\.json: cannot be read"):
        entry.published()
    for content, fault in (("[]", "TypeError"), ('{"std": 1}', "KeyError: 'mean'")):
        (entry.folder / "score.json").write_text(content, encoding="utf-8")
        with pytest.raises(FigureListError, match=rf"a: runner eval cannot read score\.json: {fault}"):
            entry.published()
    (entry.folder / "score.json").write_text("{", encoding="utf-8")
    with pytest.raises(FigureListError, match=r"score\.json: not JSON"):
        entry.published()


def test_numbers_of_a_figure() -> None:
    figure = Figure(2.0, 1.0, (1.5, 2.5), 4, 9, values={"seconds": 3.0}).in_steps(4)
    expected = {"mean": 2.0, "std": 1.0, "low": 1.5, "high": 2.5, "episodes": 4, "real_frames": 9, "real_steps": 3}
    assert figure.numbers() == expected | {"seconds": 3.0}
    assert figure.number("high") == 2.5
    with pytest.raises(UnknownFigureError, match="no number is called 'hihg'. Did you mean high"):
        figure.number("hihg")
    assert Figure(real_frames=9, real_steps=2).in_steps(4).real_steps == 2, "what is counted is not worked out"
    assert Figure(1.0).in_steps(4).real_steps is None
