"""registry.yaml, validated: which dreams there are, of which real environment, and which bundle holds the model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
from pydantic import Field, model_validator

from dreamenv.errors import RegistryError, UnknownDreamError, did_you_mean
from dreamenv.files import read_yaml
from dreamenv.schema import Sha256, Strict, checked
from dreamenv.types import KEYS, NO_KEY, ObserveAs, RealEnvSpec, Start, recorded_fields

FORMAT_VERSION = 1
# What a bundle consists of, and its agent
BundleFile = Literal["config.json", "model.safetensors", "starts.safetensors", "agent.safetensors"]
_PACKAGE = Path(__file__).resolve().parent


class ControlSection(Strict):
    """What a key does; the fields are those of `Control`."""

    label: str = Field(min_length=1)
    action: int | list[float]


class WrapperSection(Strict):
    """A wrapper of a real environment; the fields are those of `Wrapper`. A path alone will do."""

    path: str = Field(min_length=1)
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, found: Any) -> Any:
        return {"path": found} if isinstance(found, str) else found


class RealSection(Strict):
    """The real environment of a dream; the fields are those of `RealEnvSpec`."""

    id: str
    kwargs: dict[str, Any] = Field(default_factory=dict)
    wrappers: list[WrapperSection] = Field(default_factory=list)
    observation_key: str | list[str] | None = None
    observe_as: ObserveAs = "auto"
    channels: list[int] | None = None
    action_bounds: list[tuple[float, float]] | None = None
    crop: tuple[int, int, int, int] | None = None
    image_size: int = Field(default=64, ge=1)
    action_repeat: int = Field(default=1, ge=1)
    max_episode_steps: int | None = Field(default=None, ge=1)
    drop_terminal_observation: bool = False
    start_margin: int = Field(default=0, ge=0)
    module: str | None = None
    skip_unseen_frames: str | None = None
    scratch_folder: bool = False
    frames_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    controls: dict[Literal[(*KEYS, NO_KEY)], ControlSection] = Field(default_factory=dict)  # type: ignore[valid-type]

    def spec(self) -> RealEnvSpec:
        return RealEnvSpec.from_json(self.model_dump())


class DreamSection(Strict):
    """Defaults of the dream's keyword arguments.

    Attributes:
        max_episode_steps: Time limit in actions, not in real frames.
        temperature: How bold the draws of a dream are; 1 is the memory model's own distribution.
        start: Where dreams begin.
    """

    max_episode_steps: int = Field(ge=1)
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    start: Start = "initial"


class ExplorationSection(Strict):
    """One exploration policy; the fields are those of `Exploration`."""

    policy: str
    weight: float = Field(default=1.0, gt=0)
    kwargs: dict[str, Any] = Field(default_factory=dict)
    max_steps: int | None = Field(default=None, ge=1)


class TrainSection(Strict):
    """How a dream is trained.

    Attributes:
        frames: Real frames to collect before the first fit.
        recipe: Name of the recipe.
        options: Options of that recipe; whoever trains checks them, since this module knows no recipe.
        loop: Fields of `LoopOptions`, for `dreamenv loop`.
        mbpo: Fields of `MBPOOptions`, for `dreamenv mbpo`.
    """

    frames: int = Field(default=50_000, ge=1)
    recipe: str = "mdn_rnn"
    options: dict[str, Any] = Field(default_factory=dict)
    loop: dict[str, Any] = Field(default_factory=dict)
    mbpo: dict[str, Any] = Field(default_factory=dict)


class EnvironmentSection(Strict):
    """One dream.

    Attributes:
        latent_id: Id of the latent twin, the real environment seen through the same model.
        real: The real environment, and what of it the model sees.
        dream: Defaults of the dream.
        checkpoint: Folder of the bundle; a relative one begins at the folder of this file.
        sha256: Hashes of the bundle's files by their names, checked when it is loaded.
        explore: How real episodes are collected.
        train: How the model is fitted.
    """

    latent_id: str
    real: RealSection
    dream: DreamSection
    checkpoint: str
    sha256: dict[BundleFile, Sha256] = Field(default_factory=dict)
    explore: list[ExplorationSection] = Field(default_factory=list)
    train: TrainSection = Field(default_factory=TrainSection)


class _RegistryFile(Strict):
    format: Literal[1]
    environments: dict[str, EnvironmentSection]


@dataclass(frozen=True)
class DreamEntry:
    """A validated entry of a registry.yaml (`source`) with its bundle's path resolved."""

    id: str
    section: EnvironmentSection
    checkpoint: Path
    source: Path


def read_registry(path: str | Path) -> dict[str, DreamEntry]:
    """Entries of the registry.yaml at `path`, by dream id.

    A relative `checkpoint` is taken from the file's folder; in the package's own file, from the package.

    Raises:
        RegistryError: The file is missing, is not YAML, has an unknown key or a value of a wrong type, or an id that
            means two things.
    """
    path = Path(path)
    try:
        raw = read_yaml(path)
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read ({error.strerror}); expected a registry.yaml") from error
    except ValueError as error:
        raise RegistryError(f"{path}: not YAML: {error}") from error
    file = checked(_RegistryFile, raw, path, RegistryError)
    base = _PACKAGE if path.resolve() == shipped_registry_path().resolve() else path.resolve().parent
    found = {
        name: DreamEntry(name, section, (base / section.checkpoint).resolve(), path)
        for name, section in file.environments.items()
    }
    check_ids({}, found)
    return found


def check_ids(known: Mapping[str, DreamEntry], new: Mapping[str, DreamEntry]) -> None:
    """Refuse ids that would mean two things. A dream of `new` replaces that of the same id in `known`.

    Raises:
        RegistryError: A dream or a twin has the id of another one, or of its own real environment.
    """
    taken: dict[str, str] = {}
    for entry in [*(entry for name, entry in known.items() if name not in new), *new.values()]:
        real = entry.section.real.id
        for what, name in (("the dream", entry.id), ("the latent twin of", entry.section.latent_id)):
            mine = f"{what} {entry.id}"
            if name == real.rpartition(":")[2]:
                raise RegistryError(f"{entry.source}: {name} is {mine} and its real environment; give it another id")
            if name in taken:
                raise RegistryError(f"{entry.source}: {name} is {mine} and {taken[name]}; give one another id")
            taken[name] = mine


def shipped_registry_path() -> Path:
    """The package's own registry.yaml: beside the package in a checkout, inside it in a wheel."""
    inside = _PACKAGE / "registry.yaml"
    return inside if inside.exists() else _PACKAGE.parent / "registry.yaml"


_entries: dict[str, DreamEntry] | None = None
# Files of DREAMENV_REGISTRY that could not be read, with the reason
_unread: dict[str, str] = {}


def entries() -> dict[str, DreamEntry]:
    """Every known dream by id: the shipped ones, those of `DREAMENV_REGISTRY`, those added since.

    A file of `DREAMENV_REGISTRY` that cannot be read (of a run that was deleted, say) is left out with a warning, since
    the variable is read by every import of this package; whoever asks for an unknown dream is given the reason.
    """
    global _entries
    if _entries is None:
        _entries = dict(read_registry(shipped_registry_path()))
        for extra in filter(None, os.environ.get("DREAMENV_REGISTRY", "").split(os.pathsep)):
            _entries.update(_read_if_possible(extra, _entries))
    return _entries


def _read_if_possible(path: str, known: Mapping[str, DreamEntry]) -> dict[str, DreamEntry]:
    try:
        found = read_registry(Path(path).expanduser())
        check_ids(known, found)
        return found
    except RegistryError as error:
        leave_out(path, error)
        return {}


def leave_out(what: str, error: RegistryError) -> None:
    """Warn that `what` of `DREAMENV_REGISTRY` is not used, and remember why."""
    _unread[what] = str(error)
    warnings.warn(f"DREAMENV_REGISTRY: left out: {error}", stacklevel=2)


def add_entries(new: dict[str, DreamEntry]) -> None:
    """Make `new` known; an entry of the same id is replaced."""
    entries().update(new)


def find(name: str) -> DreamEntry:
    """The entry whose dream id or latent twin's id is `name`.

    Raises:
        UnknownDreamError: With the nearest ids, and the files of `DREAMENV_REGISTRY` that could not be read.
    """
    known = entries()
    try:
        return find_in(known, name)
    except UnknownDreamError as error:
        if not _unread:
            raise
        raise UnknownDreamError(f"{error} Left out of DREAMENV_REGISTRY: {'; '.join(_unread.values())}") from error


def find_in(known_entries: dict[str, DreamEntry], name: str) -> DreamEntry:
    """The entry of `known_entries` whose dream id or latent twin's id is `name`; errors as `find`."""
    bare = name.removeprefix("dreamenv:")
    if (found := _called(known_entries, bare)) is not None:
        return found
    known = [i for entry in known_entries.values() for i in (entry.id, entry.section.latent_id)]
    if bare in gym.registry:
        raise UnknownDreamError(
            f"{name!r} is a real environment, not a dream. Make one of it by "
            f"`dreamenv train --real {bare} --out FOLDER`; FOLDER is then its name"
        )
    if Path(name).is_dir():
        raise UnknownDreamError(f"no dream is called {name!r}, though a folder is: an id is wanted here")
    raise UnknownDreamError(
        f"no dream is called {name!r}. {did_you_mean(bare, known)} A dream of your own is called by its run's folder, "
        "or by its id once its registry.yaml is registered (dreamenv.register, DREAMENV_REGISTRY)."
    )


def folder_of(id_or_path: str | Path) -> Path | None:
    """The folder that is meant; None where a registered id is, or where there is none.

    An id goes before a folder of the same name in the working directory, which would otherwise take the dream's place
    unseen and unchecked: `./NAME`, or a `Path`, means the folder.
    """
    path = Path(id_or_path)
    if isinstance(id_or_path, str) and path.name == id_or_path and is_registered(id_or_path):
        return None
    return path if path.is_dir() else None


def is_registered(name: str) -> bool:
    """Whether `name` is the id of a known dream or of its latent twin."""
    return _called(entries(), name.removeprefix("dreamenv:")) is not None


def _called(known_entries: dict[str, DreamEntry], bare: str) -> DreamEntry | None:
    """The entry of which `bare` is the dream's id or its latent twin's, if there is one."""
    return next((entry for entry in known_entries.values() if bare in (entry.id, entry.section.latent_id)), None)


def real_env_spec(stored: Mapping[str, Any]) -> RealEnvSpec:
    """The real environment of `RealEnvSpec.to_json`, as a file holds it.

    Where an older version wrote it, and `stored` lacks fields that change nothing in a recorded episode, they are those
    of the first entry whose real environment has the same id; without such an entry, the defaults.

    Raises:
        TypeError, KeyError, ValueError: As `RealEnvSpec.from_json`.
    """
    specs = (entry.section.real.spec() for entry in entries().values())
    known = next((spec.to_json() for spec in specs if spec.id == stored["id"]), {})
    for_players = {name: value for name, value in known.items() if name not in recorded_fields(known)}
    return RealEnvSpec.from_json(for_players | dict(stored))
