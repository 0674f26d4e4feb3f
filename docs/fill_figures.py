"""The figures of README.md and docs/, taken from the stored results.

python docs/fill_figures.py                write the stored figures into the pages
python docs/fill_figures.py --check        say which pages differ from them, and which numbers have no figure
python docs/fill_figures.py --store RUN    publish a run of `dreamenv reproduce`, then write them

A number that was measured lies between two comments, which no reader of the page sees. The first names the figure and
its numbers in their order, the last is always the same. A line must not begin with one, since Markdown would take the
whole line for HTML.

    <!--doom-score: mean std low high-->**804 ± 477** (715 to 896)<!--/-->

Digits after the point and thousands separators stay as the text has them, unless a number's name is followed by a
format (`mean:g`); `fraction%` is shown in percent, `minutes` is how long the commands took. A whole table of rows of
one entry is written between `<!--table NAME-->` and `<!--/table-->`.

Every other number of a page is no measurement: a setting, a size, a year. It belongs to a phrase of
docs/given_numbers.yaml.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import yaml

from dreamenv.errors import DreamEnvError
from dreamenv.files import read_json, write_text
from dreamenv.workflows.published import SHIPPED, Entry, Figure, find_figure, read_figures
from dreamenv.workflows.reproduce import RECORD

ROOT = Path(__file__).resolve().parent.parent
GIVEN = ROOT / "docs" / "given_numbers.yaml"
# The log of experiments is history: its rows hold their own commands
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").rglob("*.md")) if page.stem != "experiments")]

_MARKED = re.compile(r"(<!--([a-z0-9][a-z0-9.-]*): ([^>]+?)-->)(.*?)(<!--/-->)", re.DOTALL)
_TABLE = re.compile(r"(<!--table ([a-z0-9-]+)-->\n)(.*?)(<!--/table-->)", re.DOTALL)
_AT_THE_BEGINNING = re.compile(r"^(?:[ >*+-]|\d+\.)*(<!--(?:/|[a-z0-9.-]+: [^>]+)-->)", re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])-?\d(?:[\d,]*\d)?(?:\.\d+)?")
_NOT_PROSE = re.compile(
    r"^```.*?^```$|^    .*?$|`[^`\n]+`|(?<=\])\([^)]*\)|<!--.*?-->|<[^>]*>", re.MULTILINE | re.DOTALL
)


class PageError(Exception):
    """A page names a figure that is not there, or in a form that does not fit it."""


def filled(text: str, known: Mapping[str, Entry]) -> str:
    """The text of a page with every marked number and table as it is stored.

    Raises:
        PageError: A marker names an unknown figure or number, or not as many as the text has.
    """
    text = _TABLE.sub(lambda match: match[1] + _table(match[2], known) + match[4], text)
    return _MARKED.sub(lambda match: match[1] + _refilled(match, known) + match[5], text)


def fill(known: Mapping[str, Entry]) -> None:
    """Write the stored figures into all pages; one that names an unknown figure is left as it is."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        with suppress(PageError):
            new = filled(text, known)
            if new != text:
                write_text(page, new)
                print(page.relative_to(ROOT))


def unmarked(text: str, phrases: list[str]) -> list[tuple[int, str]]:
    """Line and text of each number that is neither marked nor part of a given phrase (a regular expression)."""
    patterns = [_TABLE, _MARKED, _NOT_PROSE, *(re.compile(_broken(phrase), re.MULTILINE) for phrase in phrases)]
    covered = [match.span() for pattern in patterns for match in pattern.finditer(text)]
    return [
        (text.count("\n", 0, number.start()) + 1, number[0])
        for number in _NUMBER.finditer(text)
        if not any(first <= number.start() and number.end() <= last for first, last in covered)
    ]


def problems(page: Path, known: Mapping[str, Entry]) -> list[str]:
    """What is wrong with a page, a line each; none where all is as it is stored."""
    name, text = page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")
    given = yaml.safe_load(GIVEN.read_text(encoding="utf-8"))
    own = given["pages"].get(name, [])
    found = [
        f"{name}:{line}: {number} is neither marked as a figure nor a phrase of docs/given_numbers.yaml"
        for line, number in unmarked(text, [*given["everywhere"], *map(re.escape, own)])
    ]
    found += [f"{name}: a line begins with {match[1]}" for match in _AT_THE_BEGINNING.finditer(text)]
    plain = " ".join(text.split())
    found += [f"docs/given_numbers.yaml: {name} has no {phrase!r}" for phrase in own if phrase not in plain]
    try:
        new = filled(text, known)
    except PageError as error:
        return [*found, f"{name}: {error}"]
    lines = zip(text.splitlines(), new.splitlines(), strict=False)
    return found + [f"{name}: {old!r} is stored as {now!r}" for old, now in lines if old != now]


# Wherever the package lay that has run it
_PRESETS = re.compile(r"/[^\s\"]*/dreamenv/workflows/published/presets\b")


def store(run: Path, known: Mapping[str, Entry]) -> Path:
    """Copy what the figures of a run are read from to where published results lie; returns that folder.

    Raises:
        PageError: The run has not ended, or is of no entry, or of a seed that the entry does not publish.
    """
    record = read_json(run / RECORD)
    entry = known.get(record["name"])
    if entry is not None and record["seed"] != entry.section.seed:
        entry = known.get(f"{record['name']}-seed-{record['seed']}")
    if entry is None or not all(step["ended"] for step in record["commands"]):
        raise PageError(f"{run} holds no run of a known entry, with a seed of its own, that has ended")
    shutil.rmtree(entry.folder, ignore_errors=True)
    needed = re.compile(re.escape(str(run.resolve().parents[1])) + r"/([a-z0-9-]+)/seed_\d+")
    for name in (RECORD, *entry.files):
        (entry.folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = (run / name).read_text(encoding="utf-8")
        text = needed.sub(r"{\1}", text.replace(str(run.resolve()), "OUT"))
        text = _PRESETS.sub("{presets}", text)
        write_text(entry.folder / name, text.replace(str(ROOT), "."))
    return entry.folder


def _refilled(match: re.Match[str], known: Mapping[str, Entry]) -> str:
    name, keys, text = match[2], match[3].split(), match[4]
    figure = _figure(name, known)
    if len(keys) != len(_NUMBER.findall(text)):
        raise PageError(f"{name}: {text!r} has {len(_NUMBER.findall(text))} numbers, its marker names {len(keys)}")
    following = iter(keys)
    return _NUMBER.sub(lambda old: _shown(figure, next(following), old[0], name), text)


def _shown(figure: Figure, key: str, old: str, name: str) -> str:
    key, _, form = key.partition(":")
    try:
        value = figure.number(key.removesuffix("%"))
    except DreamEnvError as error:
        raise PageError(f"{name}: {error}") from error
    number = Decimal(repr(100 * value if key.endswith("%") else value))
    if not form:
        digits = len(old.partition(".")[2])
        number = number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP) + 0  # no minus before a zero
        form = ",f" if "," in old or abs(number) >= 10_000 else "f"
    return format(number.normalize() if form == "g" else number, form)


def _figure(name: str, known: Mapping[str, Entry]) -> Figure:
    try:
        entry, part = find_figure(name, known)
        published = entry.published()
    except DreamEnvError as error:
        raise PageError(str(error)) from error
    if part not in published:
        raise PageError(f"{name}: nothing is published yet; run dreamenv reproduce {entry.name}, and store it")
    return _with_minutes(published[part], entry)


def _with_minutes(figure: Figure, entry: Entry) -> Figure:
    """With `minutes`, the wall clock of the entry's commands, where the record of the run is stored."""
    if "minutes" in figure.values or not (entry.folder / RECORD).exists():
        return figure
    seconds = sum(step["seconds"] for step in read_json(entry.folder / RECORD)["commands"])
    return replace(figure, values={**figure.values, "minutes": seconds / 60})


def _table(name: str, known: Mapping[str, Entry]) -> str:
    entry = known.get(name)
    if entry is None or entry.section.runner not in _TABLES:
        raise PageError(f"no table can be made of {name!r}; expected an entry of runner {' or '.join(_TABLES)}")
    return _TABLES[entry.section.runner](entry)


def _rounds_table(entry: Entry) -> str:
    rows = [
        f"| {part.removeprefix('round-')} | {figure.real_frames:,} | {figure.number('dream_mean'):.0f} "
        f"| {figure.mean:.0f} ± {figure.std:.0f} |"
        for part, figure in entry.published().items()
        if part.startswith("round-")
    ]
    return "\n".join(["| round | real frames | dream | real validation |", "|---|---|---|---|", *rows, ""])


def _bench_table(entry: Entry) -> str:
    outputs = entry.stored_outputs()
    assert outputs is not None
    rows = []
    for row in outputs["bench.json"]:
        if not row["case"].startswith("curve "):
            bound, fraction = row["bound_steps_per_s"], row["fraction"]
            limit = "" if bound is None else f"{bound:,.0f}"
            share = "" if fraction is None else f"{fraction:.2f}"
            rows.append(f"| {row['case']} | {row['num_envs']:,} | {row['steps_per_s']:,.0f} | {limit} | {share} |")
    return "\n".join(["| case | at once | steps/s | bound | fraction |", "|---|---|---|---|---|", *rows, ""])


_TABLES: dict[str, Callable[[Entry], str]] = {"loop": _rounds_table, "bench": _bench_table}


def _broken(phrase: str) -> str:
    """A regular expression whose spaces may be line breaks."""
    return re.sub(r"(?:\\ | )+", r"\\s+", phrase)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a page is not as stored")
    parser.add_argument("--store", type=Path, metavar="RUN", help="OUT/ENTRY/seed_S of dreamenv reproduce")
    given = parser.parse_args()
    known = read_figures(SHIPPED)
    if given.store:
        print(store(given.store, known).relative_to(ROOT))
    if not given.check:
        fill(known)
    found = [line for page in PAGES for line in problems(page, known)]
    print("\n".join(found), file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
