"""What the verbs share: options of one meaning, which real environment a name means, a run directory's settings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import gymnasium as gym
import typer

from dreamenv import registry
from dreamenv.cli import places
from dreamenv.data.explore import Exploration
from dreamenv.data.preprocess import import_registering
from dreamenv.errors import ConfigurationError, MissingExtraError, RegistryError, UnknownDreamError, did_you_mean
from dreamenv.files import read_yaml, write_text, yaml_text
from dreamenv.options import options_from, overlay, parse_settings
from dreamenv.registry import EnvironmentSection, TrainSection
from dreamenv.types import RealEnvSpec
from dreamenv.workers import AnyWorkers, parse_workers

KindT = TypeVar("KindT")

Seed = Annotated[int, typer.Option(min=0, max=4999, help="Of all that is random; the same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="Where to train: cpu, cuda, ...")]
# Choices are written out here, so that `--help` imports no torch; a test compares them with those of the library.
Optimiser = Literal["cma", "openai"]
ActionMapKind = Literal["squash", "throttle", "argmax"]
Gradient = Literal["dynamics", "reinforce"]
View = Literal["seen", "rendered"]


def dream_ids(incomplete: str) -> list[str]:
    """The registered ids that begin with what has been typed, for the shell's completion."""
    return [name for name in registry.entries() if name.startswith(incomplete)]


def _workers(text: str | None) -> AnyWorkers:
    return None if text is None else parse_workers(text)


Workers = Annotated[
    str | None,
    typer.Option(
        metavar="N|ray|ADDRESS",
        callback=_workers,
        help="Processes for episodes; 0 works in this one. Or a Ray cluster: ray, auto, ray://HOST:PORT.",
        show_default="one a core",
    ),
]
PartWorkers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|ray|ADDRESS",
        callback=_workers,
        help="Processes for parts of the dreams; 0 works in this one. Or a Ray cluster: ray, auto, ray://HOST:PORT.",
        show_default="all dreams at once, in this process",
    ),
]
EvolutionWorkers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|ray|ADDRESS",
        callback=_workers,
        help="Processes for parts of the population and for validation; 0 works in this one. Or a Ray cluster: ray, "
        "auto, ray://HOST:PORT.",
        show_default="the population in this process; validation one a core",
    ),
]
JsonFile = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", callback=places.file, help="Write the figures to this file; - prints them."),
]


def preset(name: str | None, real: str | None) -> tuple[EnvironmentSection | None, RealEnvSpec]:
    """The registry's section (None for an environment that has none) and the real environment of the arguments.

    Raises:
        ConfigurationError: Neither or both of a dream's id and `--real`.
        UnknownDreamError: No dream, or no Gymnasium environment, of that name.
    """
    if (name is None) == (real is None):
        raise ConfigurationError("give either a dream's id (see `dreamenv list`) or --real with a Gymnasium id")
    if name is not None:
        section = registry.find(name).section
        return section, section.real.spec()
    assert real is not None
    known = section_of(real)
    if known is not None:
        return known, known.real.spec()
    if ":" in real:
        return None, RealEnvSpec(real)
    modules = sorted({e.section.real.module for e in registry.entries().values() if e.section.real.module})
    missing = [] if real in gym.registry else [module for module in modules if not _is_imported(module)]
    if real not in gym.registry:
        also = f" Not searched, because not installed: {', '.join(missing)}." if missing else ""
        raise UnknownDreamError(
            f"Gymnasium knows no environment {real!r}. {did_you_mean(real, gym.registry)} "
            f"One of another package is named with the module that registers it, such as ale_py:ALE/Pong-v5.{also}"
        )
    # Another process has to import the package again
    package = re.split("[.:]", str(gym.registry[real].entry_point))[0]
    return None, RealEnvSpec(real, module=next((m for m in modules if m.partition(".")[0] == package), None))


def _is_imported(module: str) -> bool:
    try:
        import_registering(module)
    except MissingExtraError:
        return False
    return True


def section_of(real_id: str, *, recipe: str | None = None) -> EnvironmentSection | None:
    """The registry's first section for a real environment, of those with the recipe if there are any; None where there
    is none."""
    sections = [entry.section for entry in registry.entries().values() if entry.section.real.id == real_id]
    alike = [section for section in sections if recipe is not None and section.train.recipe == recipe]
    return next(iter(alike or sections), None)


def explorations(section: EnvironmentSection | None) -> list[Exploration]:
    """The preset's exploration policies; none for an environment without a preset."""
    return [Exploration(**e.model_dump()) for e in section.explore] if section else []


def training_preset(section: EnvironmentSection | None) -> TrainSection:
    """The preset's hyperparameters; the defaults for an environment without a preset."""
    return section.train if section else TrainSection()


def recipe_and_options(
    section: EnvironmentSection | None, recipe: str | None, settings: Sequence[str]
) -> tuple[str, Any]:
    """The recipe to train by and its options, typed: the preset's, changed by `--recipe` and `--set`.

    A recipe of another name than the preset's starts from its own defaults.

    Raises:
        RegistryError: The preset names no recipe, or an option that its recipe does not take; file and key are named.
        ConfigurationError: `--recipe` or `--set` names something unknown.
    """
    from dreamenv.training.recipes.kinds import RECIPES

    preset = training_preset(section)
    chosen = recipe or preset.recipe
    if recipe is None and chosen not in RECIPES:
        place = _place(section, "train.recipe")
        raise RegistryError(f"{place}: no recipe is called {chosen!r}. {did_you_mean(chosen, RECIPES.names())}")
    kind = RECIPES[chosen].options_type
    below = preset.options if chosen == preset.recipe else {}
    checked(kind, below, section, "train.options")
    return chosen, options_from(kind, overlay(below, parse_settings(settings)), where=chosen)


def checked(kind: type[KindT], found: dict[str, Any], section: EnvironmentSection | None, where: str) -> KindT:
    """The options dataclass `kind` of what the preset `section` says at `where`.

    Raises:
        RegistryError: It does not fit; file and key are named.
    """
    try:
        return options_from(kind, found, where=_place(section, where))
    except ConfigurationError as error:
        raise RegistryError(str(error)) from error


def changed(
    kind: type[KindT], below: dict[str, Any], above: dict[str, Any], section: EnvironmentSection | None, where: str
) -> KindT:
    """The options dataclass `kind` of what a preset says, with what the command line has changed in it.

    Args:
        kind: As for `checked`.
        below: The preset's alone.
        above: With the changes.
        section: As for `checked`.
        where: As for `checked`.

    Raises:
        RegistryError: The preset's do not fit by themselves; file and key are named.
        ConfigurationError: What the command line says does not fit.
    """
    try:
        return options_from(kind, above)
    except ConfigurationError:
        checked(kind, below, section, where)
        raise


def _place(section: EnvironmentSection | None, where: str) -> str:
    """A key of a preset with the file that it is in."""
    entries = (entry for entry in registry.entries().values() if entry.section is section)
    return next((f"{entry.source}: environments.{entry.id}.{where}" for entry in entries), where)


def dream_id(real: RealEnvSpec) -> str:
    """The id given to a new dream of `real`: `Pendulum-v1` becomes `DreamPendulum-v1`."""
    bare = real.id.rpartition(":")[2].rpartition("/")[2]
    return "Dream" + (bare if re.search(r"-v\d+$", bare) else f"{bare}-v0")


def check_run(run_dir: Path, real: RealEnvSpec) -> None:
    """Refuses a run directory in which another stage has worked with another real environment.

    Raises:
        ConfigurationError: Its config.yaml says so, or cannot be read.
    """
    for stage, settings in _config_of(run_dir).items():
        found = settings.get("real", real.id) if isinstance(settings, dict) else real.id
        if found != real.id:
            raise ConfigurationError(
                f"{run_dir} holds a run of {found} (`{stage}`), and this is {real.id}; take another folder"
            )


def write_config(run_dir: Path, stage: str, settings: dict[str, Any]) -> None:
    """Record a stage's resolved settings in `<run_dir>/config.yaml`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    known = _config_of(run_dir) | {stage: settings}
    write_text(run_dir / "config.yaml", yaml_text(known))


def _config_of(run_dir: Path) -> dict[str, Any]:
    file = run_dir / "config.yaml"
    try:
        known = read_yaml(file) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: not YAML ({error}); delete it to record the settings anew") from error
    if not isinstance(known, dict):
        raise ConfigurationError(f"{file}: found {type(known).__name__}, expected a mapping; delete it")
    return known


def write_registry(
    run_dir: Path, real: RealEnvSpec, max_episode_steps: int, temperature: float, *, name: str | None = None
) -> tuple[Path, str]:
    """Write `<run_dir>/registry.yaml` for the run's bundle; returns the file and the dream's id."""
    name = dream_id(real) if name is None else name
    section = {
        "latent_id": name.replace("Dream", "Latent", 1),
        "checkpoint": "bundle",
        "real": real.to_json(),
        "dream": {"max_episode_steps": max_episode_steps, "temperature": temperature},
    }
    file = run_dir / "registry.yaml"
    write_text(file, yaml_text({"format": 1, "environments": {name: section}}))
    return file, name
