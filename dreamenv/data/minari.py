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
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.preprocess import make_real_env
from dreamenv.data.resize import resize_area
from dreamenv.errors import ConfigurationError, EpisodeFileError, did_you_mean, missing_extra
from dreamenv.types import Episode, RealEnvSpec

FORMAT_VERSION = 1
UNKNOWN_SEED = -1
_IMAGE_SIZE = 64


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
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)  # creating would leave a folder before it found out
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

    A data set that `export_minari` wrote comes back exactly. Of any other, pictures are resized to 64x64x3, vectors
    and rewards become float32, the seed is `UNKNOWN_SEED` where none is kept, and the policy is the data set's id.

    Args:
        dataset_id: `(namespace/)name-v0`.
        store: Where the episodes go, behind those that are there.
        download: Fetch the data set from Minari's server when it is not on this machine.

    Raises:
        MissingExtraError: minari is not installed.
        ConfigurationError: There is no such data set, or a world model cannot take its observations or actions.
        EpisodeFileError: An episode breaks off or goes on after its end, or the data set is of a newer format.
    """
    minari = _minari()
    try:
        dataset = minari.load_dataset(dataset_id, download=download)
    except FileNotFoundError as error:
        known = did_you_mean(dataset_id, minari.list_local_datasets())
        raise ConfigurationError(f"no Minari data set {dataset_id!r} on this machine. {known}") from error
    except ValueError as error:
        raise ConfigurationError(f"Minari data set {dataset_id!r} cannot be read: {error}") from error
    storage = dataset.storage
    _check_spaces(dataset_id, dataset.observation_space, dataset.action_space)
    if len(dataset.observation_space.shape) == 3 and storage.metadata.get("jpeg_encoding", True):
        warnings.warn(f"{dataset_id} keeps its pictures as JPEG: they are not exactly what was seen", stacklevel=2)
    real = _real_env_spec(dataset_id, storage.metadata)
    real_frames = 0
    for index in range(storage.total_episodes):
        (raw,) = storage.get_episodes([index])
        (metadata,) = storage.get_episode_metadata([index])
        episode = _from_minari(f"{dataset_id}, episode {index}", raw, metadata, dataset.action_space, dataset_id)
        store.append(episode)
        real_frames += episode.real_frames
    return MinariImport(int(storage.total_episodes), real_frames, real)


def _minari() -> ModuleType:
    try:
        import minari
    except ImportError as error:
        raise missing_extra("minari (for which Python must be 3.11 or newer)", "minari") from error
    return minari


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


def _check_spaces(dataset_id: str, observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    vector = isinstance(observation_space, spaces.Box) and len(observation_space.shape) == 1
    picture = (
        isinstance(observation_space, spaces.Box)
        and len(observation_space.shape) == 3
        and observation_space.shape[2] in (1, 3)
        and observation_space.dtype == np.uint8
    )
    if not (vector or picture):
        raise ConfigurationError(
            f"{dataset_id} has observations {observation_space}; expected a one-dimensional Box, or pictures (H, W, 3) "
            "or (H, W, 1) of uint8"
        )
    box = isinstance(action_space, spaces.Box) and len(action_space.shape) == 1
    if not (box or isinstance(action_space, spaces.Discrete)):
        raise ConfigurationError(f"{dataset_id} has actions {action_space}; expected Discrete or a one-dimensional Box")


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
    if "env_spec" in metadata:
        spec = json.loads(metadata["env_spec"])
        return RealEnvSpec(spec["id"], kwargs=spec.get("kwargs") or {}, max_episode_steps=spec.get("max_episode_steps"))
    return None


def _from_minari(
    name: str, raw: dict[str, Any], metadata: dict[str, Any], action_space: gym.Space[Any], dataset_id: str
) -> Episode:
    terminations, truncations = np.asarray(raw["terminations"], bool), np.asarray(raw["truncations"], bool)
    if len(terminations) == 0 or terminations[:-1].any() or truncations[:-1].any():
        raise EpisodeFileError(f"{name}: expected at least one step, and an end at the last step only")
    observations = np.asarray(raw["observations"])
    try:
        return Episode(
            observations=_pictures(observations) if observations.ndim == 4 else observations.astype(np.float32),
            actions=np.asarray(raw["actions"]).astype(
                np.int64 if isinstance(action_space, spaces.Discrete) else np.float32
            ),
            rewards=np.asarray(raw["rewards"]).astype(np.float32),
            terminated=bool(terminations[-1]),
            truncated=bool(truncations[-1]),
            seed=int(metadata.get("seed", UNKNOWN_SEED)),
            policy=str(metadata.get("policy", f"minari:{dataset_id}")),
            real_frames=int(metadata.get("real_frames", len(terminations))),
            final_observation_valid=bool(metadata.get("final_observation_valid", True)),
        )
    except ValueError as error:
        raise EpisodeFileError(f"{name}: {error}") from error


def _pictures(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if frames.shape[-1] == 1:
        frames = np.repeat(frames, 3, axis=-1)
    if frames.shape[1:3] == (_IMAGE_SIZE, _IMAGE_SIZE):
        return frames
    return np.stack([resize_area(frame, _IMAGE_SIZE) for frame in frames])
