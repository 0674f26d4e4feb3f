"""Make a published figure anew: run the commands of its entry, read what they wrote, and compare."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dreamenv
from dreamenv import registry
from dreamenv.errors import ConfigurationError, ReproductionError, did_you_mean
from dreamenv.files import read_json, sha256_of, write_json
from dreamenv.workflows.published.entries import PRESETS, Entry, find_figure, read_figures, read_outputs
from dreamenv.workflows.published.figure import Figure
from dreamenv.workflows.published.runners import PRINTED

RECORD = "record.json"
PROGRAMS = ("dreamenv", "python", "make")
# Of Ctrl-C and of SIGTERM
_INTERRUPTED = (130, 143)
_CHECKOUT = Path(dreamenv.__file__).resolve().parent.parent


@dataclass(frozen=True)
class Reproduction:
    """An entry that was run anew.

    Attributes:
        name: The figure that was asked for, `ENTRY` or `ENTRY.PART`.
        part: The part of the entry that it means.
        seed: Of this run.
        found: The figures of this run, by part.
        published: The figures as published, by part; none of an entry that has not been published yet.
        seconds: Wall clock of all commands, those of interrupted runs included.
        folder: Where the commands wrote.
    """

    name: str
    part: str
    seed: int
    found: Mapping[str, Figure]
    published: Mapping[str, Figure]
    seconds: float
    folder: Path

    @property
    def figure(self) -> Figure:
        """The figure that was asked for, as this run found it."""
        return self.found[self.part]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `published` is the published mean, None where there is none."""
        figure, published = self.figure, self.published.get(self.part)
        return {
            "name": self.name,
            "seed": self.seed,
            "real_steps": figure.real_steps,
            "real_frames": figure.real_frames,
            "mean": figure.mean,
            "std": figure.std,
            "ci95": None if figure.ci95 is None else list(figure.ci95),
            "episodes": figure.episodes,
            "published": None if published is None else published.mean,
            "seconds": self.seconds,
        }


def reproduce(
    name: str,
    *,
    seed: int | None = None,
    out: str | Path = "runs/reproduce",
    figures: Mapping[str, Entry] | None = None,
    report: Callable[[str], None] = print,
) -> Reproduction:
    """Run the commands of a published figure, and read the figure from what they write.

    A command that has ended is not run again in the same folder. One that was interrupted is given again, and continues
    where it is a verb that does (collect, train, evolve, train-agent, loop, mbpo, distill, demo); others begin anew.

    Args:
        name: `ENTRY`, or `ENTRY.PART` for one of several figures.
        seed: None is the seed as published.
        out: Folder of all entries; this one has `<out>/ENTRY/seed_S`, those that it needs lie next to it.
        figures: The list; None is the package's own.
        report: Receives what the commands print, line by line.

    Raises:
        UnknownFigureError: No figure of that name.
        ReproductionError: The figure cannot be made again, a command failed, or a file of a checkout is missing.
        ConfigurationError: The entry has seeds of its own, or the folder holds a run of other commands or models.
        KeyboardInterrupt: A command was interrupted.
    """
    known = read_figures() if figures is None else figures
    entry, part = find_figure(name, known)
    if not entry.section.rerun:
        raise ReproductionError(f"{entry.name} cannot be made again: {entry.section.reason}")
    chosen = entry.section.seed if seed is None else seed
    if chosen != entry.section.seed and not any("{seed}" in command for command in entry.section.commands):
        raise ConfigurationError(f"{entry.name} runs with seeds of its own; leave out seed={chosen}")
    folder = run_folder(entry, chosen, Path(out))
    for needed in entry.section.needs:
        reproduce(needed, out=out, figures=known, report=report)
    seconds = _run(entry, chosen, Path(out), known, report)
    found = entry.figures(read_outputs(folder, entry.files))
    if part not in found:
        raise ReproductionError(f"{entry.name}: this run has no figure {part!r}. {did_you_mean(part, found)}")
    return Reproduction(name, part, chosen, found, entry.published(), seconds, folder)


def run_folder(entry: Entry, seed: int, out: Path) -> Path:
    """The folder in which an entry's commands write."""
    return out.resolve() / entry.name / f"seed_{seed}"


def commands_of(entry: Entry, seed: int, out: Path, known: Mapping[str, Entry]) -> list[list[str]]:
    """The entry's commands as words, placeholders filled in.

    Raises:
        ConfigurationError: A command begins with another program than `PROGRAMS`, or has an unknown placeholder.
    """
    places = {needed: str(run_folder(known[needed], known[needed].section.seed, out)) for needed in entry.section.needs}
    places |= {"out": str(run_folder(entry, seed, out)), "seed": str(seed), "presets": str(PRESETS)}
    found = []
    for command in entry.section.commands:
        try:
            words = [word.format_map(places) for word in shlex.split(command)]
        except (KeyError, ValueError, IndexError) as error:
            raise ConfigurationError(
                f"{entry.name}: {command!r}: {error}; placeholders: {', '.join(places)}"
            ) from error
        if not words or words[0] not in PROGRAMS:
            raise ConfigurationError(f"{entry.name}: {command!r} begins with none of {', '.join(PROGRAMS)}")
        found.append(words)
    return found


def _run(entry: Entry, seed: int, out: Path, known: Mapping[str, Entry], report: Callable[[str], None]) -> float:
    """Run what has not ended yet; returns the seconds of all commands."""
    folder = run_folder(entry, seed, out)
    commands = commands_of(entry, seed, out, known)
    record = _record(entry, seed, commands, folder)
    for number, words in enumerate(commands):
        step = record["commands"][number]
        if step["ended"]:
            continue
        report(f"[{number + 1}/{len(commands)}] {shlex.join(words)}")
        begin = time.monotonic()
        try:
            printed = _call(words, report)
            with (folder / PRINTED).open("a", encoding="utf-8") as file:
                file.write(printed)
            step["ended"] = True
        finally:
            step["seconds"] += time.monotonic() - begin
            write_json(folder / RECORD, record)
    return sum(step["seconds"] for step in record["commands"])


def _record(entry: Entry, seed: int, commands: list[list[str]], folder: Path) -> dict[str, Any]:
    """What the folder holds of this run already, compared with what is to be run.

    Raises:
        ConfigurationError: It holds another one.
    """
    new: dict[str, Any] = {
        "name": entry.name,
        "seed": seed,
        "version": dreamenv.__version__,
        "sha256": _hashes(commands),
        "commands": [{"command": shlex.join(words), "ended": False, "seconds": 0.0} for words in commands],
    }
    if not (folder / RECORD).exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RECORD, new)
        return new
    old: dict[str, Any] = read_json(folder / RECORD)
    same = all(old[key] == new[key] for key in ("name", "seed", "version", "sha256"))
    if not same or [step["command"] for step in old["commands"]] != [step["command"] for step in new["commands"]]:
        raise ConfigurationError(f"{folder} holds a run of other commands, models or versions; take another folder")
    return old


def _hashes(commands: list[list[str]]) -> dict[str, dict[str, str]]:
    """sha256 of the files of every registered dream that the commands name."""
    words = {word.removeprefix("dreamenv:") for command in commands for word in command}
    return {
        name: {file.name: sha256_of(file) for file in sorted(entry.checkpoint.glob("*.safetensors"))}
        for name, entry in registry.entries().items()
        if words & {name, entry.section.latent_id}
    }


def _call(words: list[str], report: Callable[[str], None]) -> str:
    """Run one command; returns what it printed to standard output."""
    program, *arguments = words
    if program == "dreamenv":
        command, place = [sys.executable, "-m", "dreamenv", *arguments], None
    else:
        command, place = [sys.executable if program == "python" else program, *arguments], _checkout(words)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    if place is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(place), os.environ.get("PYTHONPATH"))))
    lines = []
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line)
                report(line.rstrip("\n"))
        except KeyboardInterrupt:
            process.wait()  # it got the signal too, and leaves a run that can be resumed
            raise
        except BaseException:
            process.terminate()
            raise
    if process.returncode in _INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode:
        raise ReproductionError(f"{shlex.join(words)} failed with status {process.returncode}; see above")
    return "".join(lines)


def _checkout(words: list[str]) -> Path:
    """The checkout that a script, a module of tests or a Makefile lies in: this package's, or the present folder.

    Raises:
        ReproductionError: The package is installed, and the present folder is no checkout.
    """
    needed = script_of(words)
    for place in (_CHECKOUT, Path.cwd()):
        if (place / needed).exists():
            return place
    raise ReproductionError(f"{shlex.join(words)} needs {needed}; run it in a checkout of the repository")


def script_of(words: list[str]) -> Path:
    """The file of the repository that a command of python or make runs, relative to its root."""
    if words[0] == "make":
        return Path("Makefile")
    if words[1] == "-m" and words[2] == "pytest":
        return Path(next(word for word in words[3:] if word.startswith("tests/")))
    return Path(f"{words[2].replace('.', '/')}.py") if words[1] == "-m" else Path(words[1])
