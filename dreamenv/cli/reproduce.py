"""`dreamenv reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dreamenv.cli import app, places
from dreamenv.cli.options import JsonFile
from dreamenv.cli.overview import MEASURE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dreamenv.workflows.published import Entry, Figure
    from dreamenv.workflows.reproduce import Reproduction

_LIST = ("figure", "published", "parts", "real steps", "about", "what")
_PARTS = ("figure", "published", "real steps")
_COMPARISON = ("figure", "number", "published", "anew", "difference")


@app.command(rich_help_panel=MEASURE)
def reproduce(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The figure, ENTRY or ENTRY.PART.")] = None,
    show_list: Annotated[bool, typer.Option("--list", help="Only print all entries, or what NAME is.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the run; as published by default.")] = None,
    out: Annotated[
        Path, typer.Option(callback=places.folder, help="Folder of all runs; what has ended there is not run again.")
    ] = Path("runs/reproduce"),
    figures: Annotated[Path | None, typer.Option(help="Another list: a YAML file or a folder of them.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Make a published figure again, and print it next to the published one.

    Example: dreamenv reproduce doom-score --json doom.json

    Example: dreamenv reproduce --list

    Example: dreamenv reproduce --list doom-score
    """
    from dreamenv.cli.output import Output
    from dreamenv.errors import ConfigurationError
    from dreamenv.workflows.published import SHIPPED, find_figure, read_figures
    from dreamenv.workflows.reproduce import reproduce as run

    output = Output(json_file)
    known = read_figures(SHIPPED if figures is None else figures)
    if show_list:
        if name is None:
            output.table(_LIST, list_rows(known), numbers=("parts", "real steps"))
            output.line("what an entry is in full, its commands and all its parts: dreamenv reproduce --list NAME")
        else:
            entry, _ = find_figure(name, known)
            known = {entry.name: entry}
            for line in description(entry):
                output.line(line)
            output.table(_PARTS, part_rows(entry), numbers=("real steps",))
        output.figures(list_json(known))
        return
    if name is None:
        raise ConfigurationError("give the name of a figure, or --list to see all of them")
    found = run(name, seed=seed, out=out, figures=known, report=output.line)
    output.table(_COMPARISON, comparison_rows(found), numbers=_COMPARISON[2:])
    output.line(verdict(found))
    output.figures(found.to_json())


def list_rows(known: Mapping[str, Entry]) -> list[tuple[str, ...]]:
    """A row for each entry: its name, the figure that its name means, how many it has, its time and what it is."""
    rows: list[tuple[str, ...]] = []
    for entry in known.values():
        section = entry.section
        about = f"{section.minutes:g} min" if section.rerun else "not again"
        parts = entry.published()
        shown = show_published(parts.get(section.main))
        rows.append((entry.name, shown[0], str(len(parts)) if parts else "-", shown[1], about, section.what))
    return rows


def part_rows(entry: Entry) -> list[tuple[str, ...]]:
    """Every published figure of an entry."""
    parts = entry.published()
    return [(entry.full_name(part), *show_published(figure)) for part, figure in parts.items()] or [
        (entry.name, *show_published(None))
    ]


def description(entry: Entry) -> list[str]:
    """What an entry is, why it cannot be run again or what runs, and how long that takes."""
    section = entry.section
    lines = [f"{entry.name}: {section.what}"]
    if not section.rerun:
        return [*lines, f"not again: {section.reason}"]
    lines.append(f"takes about {section.minutes:g} min on two cores; as published, the seed is {section.seed}")
    if section.needs:
        lines.append(f"first runs {', '.join(section.needs)}")
    return [*lines, *(f"  {command}" for command in section.commands)]


def show_published(figure: Figure | None) -> tuple[str, str]:
    """A figure as published and its real steps."""
    if figure is None:
        return "not yet", "-"
    return show_figure(figure), "-" if figure.real_steps is None else f"{figure.real_steps:,}"


def list_json(known: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """The list, JSON-ready: a row for each figure."""
    from dreamenv.workflows.published import all_figures

    return [
        {
            "name": name,
            "what": entry.section.what,
            "commands": entry.section.commands,
            "seed": entry.section.seed,
            "minutes": entry.section.minutes,
            "rerun": entry.section.rerun,
            "reason": entry.section.reason,
            "published": None if figure is None else figure.mean,
            "real_steps": None if figure is None else figure.real_steps,
            "numbers": {} if figure is None else figure.numbers(),
        }
        for name, entry, figure in all_figures(known)
    ]


def comparison_rows(found: Reproduction) -> list[tuple[str, ...]]:
    """The numbers of the figure that was asked for as published and anew, and the means of the entry's other parts."""
    old = found.published.get(found.part)
    before = {} if old is None else old.numbers()
    entry = found.name.partition(".")[0]
    rows = [(found.name, key, before.get(key), value) for key, value in found.figure.numbers().items()]
    for part, figure in found.found.items():
        if part != found.part and figure.mean is not None:
            other = found.published.get(part)
            rows.append(
                (f"{entry}.{part}" if part else entry, "mean", None if other is None else other.mean, figure.mean)
            )
    shown: list[tuple[str, ...]] = []
    for name, key, published, anew in rows:
        before_and_by = ("-", "-") if published is None else (show_number(published), f"{anew - published:+,.4g}")
        shown.append((name, key, before_and_by[0], show_number(anew), before_and_by[1]))
    return shown


def verdict(found: Reproduction) -> str:
    """Whether the two intervals of the mean have a common part, where both are known."""
    old, new = found.published.get(found.part), found.figure
    if old is None:
        return f"{found.name} has not been published yet"
    if old.ci95 is None or new.ci95 is None:
        return f"{found.name}: published {show_figure(old)}, anew {show_figure(new)}"
    overlap = old.ci95[0] <= new.ci95[1] and new.ci95[0] <= old.ci95[1]
    words = "overlap" if overlap else "do not overlap"
    return f"{found.name}: published {show_figure(old)}, anew {show_figure(new)}: the 95% intervals {words}"


def show_figure(figure: Figure) -> str:
    """A figure in one line."""
    shown = "" if figure.mean is None else show_number(figure.mean)
    shown += "" if figure.std is None else f" ± {show_number(figure.std)}"
    if figure.ci95 is not None:
        shown += f" ({show_number(figure.ci95[0])} to {show_number(figure.ci95[1])})"
    return shown


def show_number(value: float) -> str:
    """Whole numbers whole, others with four digits."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
