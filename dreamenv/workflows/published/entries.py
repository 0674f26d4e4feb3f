"""The list of the published figures: what each is, the commands that make it anew, and its value as published.

The .yaml files hold the entries. `stored/NAME/` holds what the commands of entry NAME wrote when its figures were
published, or `figures.json`, the figures themselves, where the run's files were not kept or the figure is another
work's. An entry may have several figures, its *parts*: the rows of a benchmark, the rounds of a loop. A figure is
called `ENTRY.PART`, and `ENTRY` alone means the entry's main part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dreamenv import registry
from dreamenv.bundle_config import read_config
from dreamenv.errors import ConfigurationError, FigureListError, UnknownFigureError, did_you_mean
from dreamenv.files import read_json, read_yaml
from dreamenv.workflows.published.figure import Figure, Outputs, figure_from
from dreamenv.workflows.published.runners import RUNNERS

SHIPPED = Path(__file__).resolve().parent
# Preset files of environments that no shipped dream is of
PRESETS = SHIPPED / "presets"
_FIGURES = "figures.json"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecordedSection(_Strict):
    """Where a bundle records the outcome: the key of its provenance for each file that the runner reads."""

    dream: str
    files: dict[str, str]


class EntrySection(_Strict):
    """One entry of the list.

    Attributes:
        what: What the figure is, in a phrase.
        runner: Which of the registered runners reads what the commands write; none where nothing can be run.
        read: Options of the runner.
        commands: Run in order. `{out}` is the entry's own folder, `{seed}` the seed, `{presets}` the folder of the
            preset files that come with the list, `{NAME}` the folder of an entry that this one needs. The first word is
            `dreamenv`, `python` or `make`.
        needs: Entries whose folders the commands read; they are reproduced first.
        seed: As published.
        more_seeds: Seeds that the same commands were published with too, each as an entry `NAME-seed-SEED` of its own.
        minutes: About how long all commands take on two cores.
        action_repeat: Real frames of an action, to say `real_frames` in steps.
        main: The part that the entry's own name means.
        recorded: Where a bundle records the same outcome.
        rerun: False for a figure that no command can make again, or that others have published.
        reason: Why not, or who published it and where.
        awaited: True while nothing has been published: the commands are there, and have not been run to the end.
    """

    what: str
    runner: str = ""
    read: dict[str, Any] = Field(default_factory=dict)
    commands: list[str] = Field(default_factory=list)
    needs: list[str] = Field(default_factory=list)
    seed: int = Field(default=0, ge=0)
    more_seeds: list[Annotated[int, Field(ge=0)]] = Field(default_factory=list)
    minutes: float | None = Field(default=None, gt=0)
    action_repeat: int = Field(default=1, ge=1)
    main: str = ""
    recorded: RecordedSection | None = None
    rerun: bool = True
    reason: str = ""
    awaited: bool = False

    @model_validator(mode="after")
    def _complete(self) -> EntrySection:
        if self.rerun and not (self.runner and self.commands and self.minutes):
            raise ValueError("an entry that can be run again needs runner, commands and minutes")
        if self.rerun == bool(self.reason):
            raise ValueError("reason says why an entry cannot be run again: it goes with rerun: false, and only there")
        if self.seed in self.more_seeds:
            raise ValueError(f"more_seeds holds {self.seed}, which is the entry's own seed")
        if self.more_seeds and self.needs:
            raise ValueError("more_seeds cannot go with needs: what is needed is made with one seed")
        return self

    def of_each_seed(self, name: str) -> Iterator[tuple[str, EntrySection]]:
        """The entry itself, then one for each further seed, by name."""
        yield name, self
        for seed in self.more_seeds:
            change = {"seed": seed, "more_seeds": [], "what": f"{self.what}, seed {seed}", "recorded": None}
            yield f"{name}-seed-{seed}", self.model_copy(update=change)


class _ListFile(_Strict):
    format: Literal[1]
    figures: dict[str, EntrySection]


@dataclass(frozen=True)
class Entry:
    """A validated entry, by its name, and the folder of what was published."""

    name: str
    section: EntrySection
    folder: Path

    @property
    def files(self) -> tuple[str, ...]:
        """The files that the figures are read from; none where nothing can be run."""
        if not self.section.runner:
            return ()
        runner = RUNNERS[self.section.runner]
        return runner.files(runner.options.model_validate(self.section.read))

    def full_name(self, part: str) -> str:
        """`ENTRY.PART`, or `ENTRY` where the entry has no parts."""
        return f"{self.name}.{part}" if part else self.name

    def figures(self, outputs: Outputs) -> dict[str, Figure]:
        """The figures, by part, that the runner reads from what the commands wrote.

        Raises:
            FigureListError: The outputs are not of the runner's form.
        """
        runner = RUNNERS[self.section.runner]
        try:
            found = runner.read(outputs, runner.options.model_validate(self.section.read))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise FigureListError(
                f"{self.name}: runner {self.section.runner} cannot read {', '.join(outputs)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return self._in_steps(found)

    def published(self) -> dict[str, Figure]:
        """The figures as published, by part; none where the entry is new and nothing has been published yet.

        Raises:
            FigureListError: What is stored cannot be read, or is not what the runner reads.
        """
        if (self.folder / _FIGURES).exists():
            stored = read_outputs(self.folder, (_FIGURES,))[_FIGURES]["figures"]
            return self._in_steps({part: figure_from(numbers) for part, numbers in stored.items()})
        outputs = self.stored_outputs()
        return {} if outputs is None else self.figures(outputs)

    def stored_outputs(self) -> dict[str, Any] | None:
        """What the commands wrote when the figures were published: from the entry's folder, else from a bundle."""
        if self.section.runner and self.folder.is_dir():
            return read_outputs(self.folder, self.files)
        return self.recorded_outputs()

    def recorded_outputs(self) -> dict[str, Any] | None:
        """What a bundle records, by the file that would hold the same; None where the entry names no bundle."""
        recorded = self.section.recorded
        if recorded is None:
            return None
        provenance = read_config(registry.find(recorded.dream).checkpoint)["provenance"]
        return {file: provenance[key] for file, key in recorded.files.items()}

    def _in_steps(self, found: Mapping[str, Figure]) -> dict[str, Figure]:
        return {part: figure.in_steps(self.section.action_repeat) for part, figure in found.items()}


def read_figures(path: str | Path = SHIPPED) -> dict[str, Entry]:
    """All entries of a list, by name.

    Args:
        path: A YAML file, or a folder that holds some. What was published lies next to it in the folder `stored`.

    Raises:
        FigureListError: A file is missing, is not YAML, or holds an unknown key, a value of a wrong type, an unknown
            runner, or a name twice.
    """
    path = Path(path)
    files = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not files:
        raise FigureListError(f"{path}: holds no list of figures; expected .yaml files")
    found: dict[str, Entry] = {}
    for file in files:
        for name, section in _read_file(file):
            if not _NAME.fullmatch(name):
                raise FigureListError(f"{file}: {name!r} is no name; expected lower case words joined by hyphens")
            if name in found:
                raise FigureListError(f"{file}: {name} is in the list twice")
            found[name] = Entry(name, section, file.parent / "stored" / name)
            if section.runner:
                _check_runner(file, found[name])
    for entry in found.values():
        for needed in entry.section.needs:
            if needed not in found:
                raise FigureListError(f"{path}: {entry.name} needs {needed}. {did_you_mean(needed, found)}")
    return found


def find_figure(name: str, known: Mapping[str, Entry]) -> tuple[Entry, str]:
    """The entry of figure `ENTRY` or `ENTRY.PART`, and the part.

    Raises:
        UnknownFigureError: With the nearest names.
    """
    bare, _, part = name.partition(".")
    if bare not in known:
        raise UnknownFigureError(f"no figure is called {name!r}. {did_you_mean(bare, known)}")
    entry = known[bare]
    part = part or entry.section.main
    parts = entry.published()
    if parts and part not in parts:
        raise UnknownFigureError(f"{bare} has no figure {part!r}. {did_you_mean(part, filter(None, parts))}")
    return entry, part


def all_figures(known: Mapping[str, Entry]) -> Iterator[tuple[str, Entry, Figure | None]]:
    """Every figure of the list by its full name; None where nothing has been published yet."""
    for entry in known.values():
        parts = entry.published()
        for part, figure in parts.items():
            yield entry.full_name(part), entry, figure
        if not parts:
            yield entry.name, entry, None


def read_outputs(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The files `names` of a folder: JSON as what it holds, others as text.

    Raises:
        FigureListError: One is missing or not JSON.
    """
    found: dict[str, Any] = {}
    for name in names:
        file = folder / name
        try:
            found[name] = read_json(file) if file.suffix == ".json" else file.read_text(encoding="utf-8")
        except OSError as error:
            raise FigureListError(f"{file}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise FigureListError(f"{file}: not JSON: {error}") from error
    return found


def _read_file(file: Path) -> list[tuple[str, EntrySection]]:
    """The entries of a file by name, one for each of their seeds."""
    try:
        raw = read_yaml(file)
    except OSError as error:
        raise FigureListError(f"{file}: cannot be read ({error.strerror}); expected a list of figures") from error
    except ValueError as error:
        raise FigureListError(f"{file}: not YAML: {error}") from error
    try:
        sections = _ListFile.model_validate(raw).figures
    except ValidationError as error:
        raise FigureListError("\n".join(_explain(file, "", part) for part in error.errors())) from error
    return [of_seed for name, section in sections.items() for of_seed in section.of_each_seed(name)]


def _check_runner(file: Path, entry: Entry) -> None:
    try:
        RUNNERS[entry.section.runner].options.model_validate(entry.section.read)
    except ConfigurationError as error:
        raise FigureListError(f"{file}: {entry.name}: {error}") from error
    except ValidationError as error:
        place = f"{entry.name}.read"
        raise FigureListError("\n".join(_explain(file, place, part) for part in error.errors())) from error


def _explain(file: Path, where: str, item: Any) -> str:
    place = ".".join([*filter(None, [where]), *(str(part) for part in item["loc"])]) or "(top level)"
    if item["type"] == "extra_forbidden" and not where:
        known = EntrySection.model_fields if len(item["loc"]) == 3 else _ListFile.model_fields
        return f"{file}: {place}: unknown key. {did_you_mean(str(item['loc'][-1]), known)}"
    return f"{file}: {place}: {item['msg']}"
