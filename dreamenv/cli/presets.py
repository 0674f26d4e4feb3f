"""Which real environment a verb is about, and with which settings: an id, `--real`, `--config`, or what a run holds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from dreamenv.cli import places
from dreamenv.cli.options import dream_id, dream_ids, explorations, preset, recipe_and_options, training_preset
from dreamenv.data.collect import collected_real
from dreamenv.data.explore import Exploration
from dreamenv.errors import ConfigurationError, UnknownDreamError, did_you_mean
from dreamenv.registry import EnvironmentSection, read_registry
from dreamenv.types import RealEnvSpec, recorded_fields

Name = Annotated[
    str | None, typer.Argument(metavar="ID", autocompletion=dream_ids, help="A dream's id; its preset is used.")
]
Real = Annotated[str | None, typer.Option(help="Any Gymnasium id, instead of a dream's; module:Id imports the module.")]
Config = Annotated[
    Path | None,
    typer.Option(help="A preset file of your own, as `dreamenv init` writes it; ID chooses where it has several."),
]
Run = Annotated[
    Path | None,
    typer.Option("--out", callback=places.folder, help="Run directory.", show_default="runs/ and the id"),
]
TimeLimit = Annotated[
    int | None,
    typer.Option(
        "--max-episode-steps",
        min=1,
        help="Time limit of the real environment in real frames, instead of its own.",
        show_default="its own",
    ),
]
DreamSteps = Annotated[
    int | None,
    typer.Option(min=1, help="Time limit of the dream in actions.", show_default="the real environment's"),
]


@dataclass(frozen=True)
class Preset:
    """What a verb works on.

    Attributes:
        real: The real environment.
        dream: Id of a dream of it.
        words: The arguments that named it, for the command that is recorded.
        out: The run directory.
        section: Its entry of a registry or preset file; None where it has none.
    """

    real: RealEnvSpec
    dream: str
    words: tuple[str, ...]
    out: Path
    section: EnvironmentSection | None = None

    @property
    def explore(self) -> list[Exploration]:
        """Its exploration policies; none by default."""
        return explorations(self.section)

    @property
    def frames(self) -> int:
        """Real frames to collect first."""
        return training_preset(self.section).frames

    @property
    def temperature(self) -> float:
        """Of the dream."""
        return self.section.dream.temperature if self.section else 1.0

    def dream_steps(self, asked: int | None, limit: int | None) -> int | None:
        """The dream's time limit in actions: as asked for; else the preset's, unless the real limit is another one."""
        if asked is not None or self.section is None or limit is not None:
            return asked
        return self.section.dream.max_episode_steps

    def recipe(self, recipe: str | None, settings: Sequence[str] | None) -> tuple[str, object]:
        """The recipe and its options, changed by `--recipe` and `--set`."""
        return recipe_and_options(self.section, recipe, settings or [])

    def command(self, verb: str, recipe: str | None, settings: Sequence[str] | None) -> str:
        """The command that fits a model, for the bundle's provenance."""
        words = ["dreamenv", verb, *self.words, *(["--recipe", recipe] if recipe else [])]
        return shlex.join([*words, *(word for setting in settings or () for word in ("--set", setting))])


def chosen_preset(
    name: str | None,
    real: str | None,
    config: Path | None,
    out: Path | None,
    *,
    limit: int | None = None,
    episodes: Path | None = None,
) -> Preset:
    """What the arguments of a verb mean.

    Args:
        name: A dream's id; with `config` the entry of that file.
        real: A Gymnasium id.
        config: A preset file.
        out: The run directory; None is `runs/` and the real environment's name. Where none of the others is given, the
            real environment is the one whose episodes the run holds.
        limit: Of `--max-episode-steps`.
        episodes: The store whose episodes are meant; None is that of the run.

    Raises:
        ConfigurationError: None of them, or two that exclude each other.
        UnknownDreamError: No dream, or no Gymnasium environment, of that name.
        RegistryError: The preset file does not fit its schema.
    """
    if config is not None:
        found = _of_file(name, real, config)
    elif name is None and real is None:
        found = _of_episodes(out / "episodes" if episodes is None and out is not None else episodes)
    else:
        section, spec = preset(name, real)
        named = ("--real", spec.id) if name is None else (name,)
        found = Preset(spec, dream_id(spec), named, Path(), section)
    spec = found.real if limit is None else replace(found.real, max_episode_steps=limit)
    words = found.words if limit is None else (*found.words, "--max-episode-steps", str(limit))
    return replace(found, real=spec, words=words, out=default_run(spec) if out is None else out)


def default_run(real: RealEnvSpec) -> Path:
    """The run directory of a real environment, where none is named."""
    return Path("runs") / re.sub(r"[^\w.-]", "_", real.id.rpartition(":")[2])


def _of_file(name: str | None, real: str | None, config: Path) -> Preset:
    if real is not None:
        raise ConfigurationError(f"--config {config} names the real environment already; leave --real out")
    entries = read_registry(config)
    if name is None and len(entries) != 1:
        raise ConfigurationError(f"{config} holds {len(entries)} presets; name one of {', '.join(sorted(entries))}")
    if name is not None and name not in entries:
        raise ConfigurationError(f"{config} holds no {name!r}. {did_you_mean(name, entries)}")
    entry = entries[name] if name is not None else next(iter(entries.values()))
    words = ("--config", str(config)) if name is None else (name, "--config", str(config))
    return Preset(entry.section.real.spec(), entry.id, words, Path(), entry.section)


def agent_folder(model: str) -> Path:
    """Where an agent of a model, an id or folder, is written if no place is named: beside the bundle of a run."""
    from dreamenv.bundle import resolve_bundle

    bundle = resolve_bundle(model)[0]
    if bundle.name == "bundle":
        return bundle.parent / "agent"
    return Path("runs") / (bundle.name or "run") / "agent"


def _of_episodes(store: Path | None) -> Preset:
    """With the first preset of the real environment: over episodes of Doom that of DreamDoom-v0, not of -v1."""
    real = None if store is None else collected_real(store)
    if real is None:
        raise ConfigurationError(
            "give either a dream's id (see `dreamenv list`), --real with a Gymnasium id, --config with a preset file, "
            "or --out with a run that holds episodes"
        )
    section = None
    with suppress(UnknownDreamError):  # nothing registers it by now; its episodes will do
        section, known = preset(None, real.id)
        if recorded_fields(known.to_json()) != recorded_fields(real.to_json()):
            section = None
    return Preset(real, dream_id(real), ("--real", real.id), Path(), section)
