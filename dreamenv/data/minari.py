"""Episodes out to Minari data sets and in from them: a form of exchange, not the working store.

Minari keeps an episode as T+1 observations and T actions, as `Episode` does. Its pictures are lossy JPEG by default;
here they are written raw, so that a round trip is exact. Raw also means uncompressed: 12.3 kB a 64x64x3 frame.

Data sets lie where Minari looks for them: `~/.minari/datasets`, or the folder that MINARI_DATASETS_PATH names.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np

from dreamenv.data.actions import ActionMapping
from dreamenv.data.collect import check_collected, importing_from, is_unfinished, record_origin
from dreamenv.data.episode_file import episode_bytes, read_episode
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.observations import Preparation, preparation_of
from dreamenv.data.preprocess import make_raw_env, make_real_env
from dreamenv.errors import (
    ConfigurationError,
    EpisodeFileError,
    MissingExtraError,
    UnknownDreamError,
    did_you_mean,
    missing_extra,
)
from dreamenv.types import Episode, RealEnvSpec, Wrapper

FORMAT_VERSION = 1
UNKNOWN_SEED = -1


@dataclass(frozen=True)
class MinariImport:
    """What `import_minari` added to a store.

    Attributes:
        episodes: Episodes added.
        real_frames: Their real frames, action repeat counted. In a data set that this package did not export, a step
            counts as one.
        real: The real environment of the episodes; None when the data set does not name one.
    """

    episodes: int
    real_frames: int
    real: RealEnvSpec | None


def export_minari(
    store: EpisodeStore,
    dataset_id: str,
    real: RealEnvSpec,
    *,
    description: str | None = None,
    author: str | None = None,
) -> int:
    """Write the episodes of `store` as the Minari data set `dataset_id` and return how many there are.

    The data set's metadata holds the Gymnasium spec of the real environment (`env_spec`), and the preprocessing with
    the format version (`dreamenv`, JSON); each episode's holds `seed`, `policy`, `real_frames` and
    `final_observation_valid`. The spaces of the data set are those of the preprocessed environment.

    Args:
        store: Episodes of `real`.
        dataset_id: `(namespace/)name-v0`.
        real: The real environment; it is made once, to read its spaces.
        description: Free text for the data set's metadata.
        author: Name for the data set's metadata.

    Raises:
        MissingExtraError: minari, or the real environment's package, is not installed.
        ConfigurationError: The store is empty, the id is not of Minari's form, or it is taken.
        EpisodeFileError: An episode is cut short, has no steps, or does not fit the spaces of `real`.
    """
    minari = _minari()
    if len(store) == 0:
        raise ConfigurationError(f"{store.path}: no episodes to export; collect some first")
    env = make_real_env(real)
    observation_space, action_space, env_spec = env.observation_space, env.action_space, env.env.spec
    env.close()
    _check_id(minari, dataset_id)  # creating would leave a folder before it found out
    try:
        with warnings.catch_warnings():
            # Minari recommends metadata that are optional here, and the environment's spec, which `_write` adds: if it
            # were given here, Minari would make the environment again, without its preprocessing.
            warnings.simplefilter("ignore", UserWarning)
            dataset = minari.create_dataset_from_buffers(
                dataset_id,
                [],
                observation_space=observation_space,
                action_space=action_space,
                author=author,
                description=description,
                jpeg_encoding=False,
            )
    except ValueError as error:
        raise ConfigurationError(f"Minari data set {dataset_id!r} cannot be made: {error}") from error
    storage = dataset.storage
    try:
        metadata = {"dreamenv": json.dumps({"format_version": FORMAT_VERSION, "real": real.to_json()})}
        if env_spec is not None:
            metadata["env_spec"] = env_spec.to_json()
        storage.update_metadata(metadata)
        for index, episode in enumerate(store):
            _check_fits(store.files()[index].name, episode, observation_space, action_space)
            storage.update_episodes([_to_buffer(minari, episode)])
            provenance = {name: getattr(episode, name) for name in ("policy", "real_frames", "final_observation_valid")}
            storage.update_episode_metadata([provenance], [index])
    except BaseException:
        shutil.rmtree(storage.data_path.parent)
        raise
    return len(store)


def import_minari(dataset_id: str, store: EpisodeStore, *, download: bool = False) -> MinariImport:
    """Append the episodes of the Minari data set `dataset_id` to `store`.

    A data set that `export_minari` wrote comes back exactly. Of any other, observations and actions are prepared as
    those of a real environment are (see `data.observations` and `data.actions`), wrappers that it was recorded through
    are those of the real environment, the seed is `UNKNOWN_SEED` where none is kept, and the policy is the data set's
    id. What the episodes are of is noted in the store, so that nothing else is trained on them.

    Args:
        dataset_id: `(namespace/)name-v0`.
        store: Where the episodes go, behind those that are there.
        download: Fetch the data set from Minari's server when it is not on this machine.

    Raises:
        MissingExtraError: minari is not installed.
        ConfigurationError: There is no such data set, or the id of one to download is not of Minari's form; a world
            model cannot take its observations or actions; it was recorded through a wrapper that cannot be made again;
            the store holds episodes of something else, or a collection into it has not come to its end.
        EpisodeFileError: An episode breaks off or goes on after its end, holds a number that is not finite, or the data
            set is of a newer format. Nothing is added then.
    """
    minari = _minari()
    if download:
        _check_id(minari, dataset_id)
    try:
        dataset = minari.load_dataset(dataset_id, download=download)
    except FileNotFoundError as error:
        known = did_you_mean(dataset_id, minari.list_local_datasets())
        raise ConfigurationError(f"no Minari data set {dataset_id!r} on this machine. {known}") from error
    except ValueError as error:
        raise ConfigurationError(f"Minari data set {dataset_id!r} cannot be read: {error}") from error
    storage = dataset.storage
    if len(dataset.observation_space.shape or ()) == 3 and storage.metadata.get("jpeg_encoding", True):
        warnings.warn(f"{dataset_id} keeps its pictures as JPEG: they are not exactly what was seen", stacklevel=2)
    real = _real_env_spec(dataset_id, storage.metadata)
    spec = _to_prepare(dataset_id, storage.metadata, dataset.observation_space, real)
    prepared = _Prepared(
        dataset_id, preparation_of(dataset.observation_space, spec), ActionMapping(dataset.action_space, spec)
    )
    if real is not None:
        _check_recoverable(dataset_id, real, spec, dataset)
        if len(store):
            check_collected(store.path, real)
    episodes = []
    for index in range(storage.total_episodes):
        (raw,) = storage.get_episodes([index])
        (metadata,) = storage.get_episode_metadata([index])
        episodes.append(prepared.episode(f"{dataset_id}, episode {index}", raw, metadata))
    _check_like_those_of(store, episodes, dataset_id)
    _append(store, episodes, dataset_id, real)
    return MinariImport(len(episodes), sum(episode.real_frames for episode in episodes), real)


def _check_like_those_of(store: EpisodeStore, episodes: list[Episode], dataset_id: str) -> None:
    files = store.files()
    if not (files and episodes):
        return
    there = read_episode(files[0])
    for what in ("observations", "actions"):
        own, its = getattr(there, what), getattr(episodes[0], what)
        if (own.shape[1:], own.dtype) != (its.shape[1:], its.dtype):
            raise ConfigurationError(
                f"{store.path}: the store holds episodes of something else: {what} {own.shape[1:]} {own.dtype}, those "
                f"of {dataset_id} are {its.shape[1:]} {its.dtype}. Take another folder"
            )


def _append(store: EpisodeStore, episodes: list[Episode], dataset_id: str, real: RealEnvSpec | None) -> None:
    """All of them: what a killed import of the same data set has left is removed first."""
    if is_unfinished(store.path) and store.own_files():
        raise ConfigurationError(
            f"{store.path}: a collection has not come to its end; give the same `dreamenv collect` again first, or "
            "take another folder"
        )
    begun = max((int(file.stem) for file in store.own_files()), default=-1) + 1
    unfinished = importing_from(store.path)
    if unfinished is not None:
        begun, source = unfinished
        if source != dataset_id:
            raise ConfigurationError(
                f"{store.path}: an import of {source} has not come to its end; import it again first, or take another "
                "folder"
            )
        for file in store.own_files():
            if int(file.stem) >= begun:
                file.unlink()
    record_origin(store.path, real, dataset_id, importing_from=begun)
    for episode in episodes:
        store.append(episode)
    record_origin(store.path, real, dataset_id)


def _to_prepare(
    dataset_id: str, metadata: dict[str, Any], space: gym.Space[Any], real: RealEnvSpec | None
) -> RealEnvSpec:
    """How what is recorded is to be prepared; what was exported is prepared already, and stays as it is."""
    if real is None:
        return RealEnvSpec(dataset_id)
    if "dreamenv" not in metadata:
        return real
    picture = len(space.shape or ()) == 3
    return RealEnvSpec(dataset_id, image_size=real.image_size, observe_as="picture" if picture else "vector")


def _check_recoverable(dataset_id: str, real: RealEnvSpec, spec: RealEnvSpec, dataset: Any) -> None:
    """Refuse a data set whose spaces are not those of the real environment that it names, where that can be made."""
    try:
        env = make_real_env(real) if spec is not real else make_raw_env(real)
    except (MissingExtraError, UnknownDreamError):
        return  # nothing can be trained on it before the environment is there, and then it is compared
    env.close()
    for what, own, its in (
        ("observations", dataset.observation_space, env.observation_space),
        ("actions", dataset.action_space, env.action_space),
    ):
        if own != its:
            raise ConfigurationError(
                f"{dataset_id} has {what} {own}, its environment {real.id} with {real.kwargs} and the wrappers "
                f"{[wrapper.path for wrapper in real.wrappers]} has {its}: it was recorded through something that it "
                "does not name"
            )


def _minari() -> ModuleType:
    try:
        import minari
    except ImportError as error:
        raise missing_extra("minari (for which Python must be 3.11 or newer)", "minari") from error
    return minari


def _check_id(minari: ModuleType, dataset_id: str) -> None:
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
    except (TypeError, ValueError) as error:  # TypeError where there is no version
        raise ConfigurationError(
            f"{dataset_id!r} is no id of a Minari data set; expected (namespace/)name-v0, with a version"
        ) from error


def _to_buffer(minari: ModuleType, episode: Episode) -> Any:
    ends = np.zeros((2, len(episode)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    return minari.data_collector.EpisodeBuffer(
        seed=episode.seed,
        observations=episode.observations,
        actions=episode.actions,
        rewards=episode.rewards,
        terminations=ends[0],
        truncations=ends[1],
    )


def _check_fits(name: str, episode: Episode, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    if len(episode) == 0:
        raise EpisodeFileError(f"{name}: an episode without steps; Minari cannot hold it")
    for what, array, space in (
        ("observations", episode.observations, observation_space),
        ("actions", episode.actions, action_space),
    ):
        if array.shape[1:] != space.shape or array.dtype.kind != np.dtype(space.dtype).kind:
            raise EpisodeFileError(
                f"{name}: {what} of shape {array.shape[1:]} and dtype {array.dtype}, expected those of {space}; "
                "is it an episode of another environment?"
            )


def _real_env_spec(dataset_id: str, metadata: dict[str, Any]) -> RealEnvSpec | None:
    if "dreamenv" in metadata:
        try:
            written = json.loads(metadata["dreamenv"])
            version, real = int(written["format_version"]), dict(written["real"])
            if version > FORMAT_VERSION:
                raise EpisodeFileError(
                    f"{dataset_id}: format_version {version}, this dreamenv reads up to {FORMAT_VERSION}; upgrade it"
                )
            return RealEnvSpec.from_json(real)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise EpisodeFileError(f"{dataset_id}: its metadata 'dreamenv' cannot be read: {error!r}") from error
    if "env_spec" not in metadata:
        return None
    spec = json.loads(metadata["env_spec"])
    if not isinstance(spec.get("entry_point"), str) and spec["id"] not in gym.registry:
        return None
    return RealEnvSpec(
        spec["id"],
        kwargs=spec.get("kwargs") or {},
        wrappers=tuple(_wrapper(dataset_id, found) for found in spec.get("additional_wrappers") or ()),
        max_episode_steps=spec.get("max_episode_steps"),
    )


def _wrapper(dataset_id: str, found: dict[str, Any]) -> Wrapper:
    if found.get("kwargs") is None:
        raise ConfigurationError(
            f"{dataset_id} was recorded through the wrapper {found.get('entry_point')}, which does not say its keyword "
            "arguments, so that nobody can put it around the real environment again. Wrappers that inherit from "
            "gymnasium.utils.RecordConstructorArgs do"
        )
    return Wrapper(found["entry_point"], found["kwargs"])


@dataclass(frozen=True)
class _Prepared:
    """Brings episodes of a data set into form."""

    dataset_id: str
    observations: Preparation
    actions: ActionMapping

    def episode(self, name: str, raw: dict[str, Any], metadata: dict[str, Any]) -> Episode:
        terminations, truncations = np.asarray(raw["terminations"], bool), np.asarray(raw["truncations"], bool)
        steps = len(terminations)
        if steps == 0 or terminations[:-1].any() or truncations[:-1].any():
            raise EpisodeFileError(f"{name}: expected at least one step, and an end at the last step only")
        try:
            seen = [self.observations.prepare(_at(raw["observations"], time)) for time in range(steps + 1)]
            taken = [self.actions.from_real(_at(raw["actions"], time)) for time in range(steps)]
            with np.errstate(over="ignore"):
                rewards = np.asarray(raw["rewards"]).astype(np.float32)
            episode = Episode(
                observations=np.stack(seen),
                actions=np.stack(taken),
                rewards=rewards,
                terminated=bool(terminations[-1]),
                truncated=bool(truncations[-1]),
                seed=int(metadata.get("seed", UNKNOWN_SEED)),
                policy=str(metadata.get("policy", f"minari:{self.dataset_id}")),
                real_frames=int(metadata.get("real_frames", steps)),
                final_observation_valid=bool(metadata.get("final_observation_valid", True)),
            )
        except (ValueError, IndexError) as error:
            raise EpisodeFileError(f"{name}: {error}") from error
        try:
            episode_bytes(episode)  # refuses what no store holds, before anything is added
        except EpisodeFileError as error:
            raise EpisodeFileError(f"{name}: {error}") from error
        return episode


def _at(part: Any, time: int) -> Any:
    """What arrays, or dicts and tuples of arrays, hold at a time."""
    if isinstance(part, dict):
        return {key: _at(value, time) for key, value in part.items()}
    if isinstance(part, tuple):
        return tuple(_at(value, time) for value in part)
    return part[time]
