"""The store of real episodes: one lossless HDF5 file an episode, and a memmap cache of them for training."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import EpisodeFileError, missing_extra
from dreamenv.files import atomic, writable_folder, write_bytes
from dreamenv.types import Episode

FORMAT_VERSION = 1
_CHUNK_FRAMES = 16
_SECONDS_OF_A_BUILD = 24 * 3600
_FIELDS = ("observations", "actions", "rewards")


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "train") from error
    return h5py


class EpisodeStore:
    """A folder of episode files `00000000.h5`, `00000001.h5`, ... in the order in which they were collected.

    Folders within it (the rounds of a loop) belong to the store, in the order of their names.

    A file appears under its name only when it is whole, so a killed writer leaves no half an episode behind.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def files(self) -> list[Path]:
        """Episode files in order."""
        return sorted(self.path.rglob("[0-9]*.h5"))

    def own_files(self) -> list[Path]:
        """Those that lie in the folder itself."""
        return sorted(self.path.glob("[0-9]*.h5"))

    def __len__(self) -> int:
        return len(self.files())

    def __iter__(self) -> Iterator[Episode]:
        return (read_episode(file) for file in self.files())

    def __getitem__(self, index: int) -> Episode:
        return read_episode(self.files()[index])

    def append(self, episode: Episode) -> Path:
        """Write `episode` behind the last one and return its file."""
        numbers = [int(file.stem) for file in self.own_files()]
        return self.write(max(numbers, default=-1) + 1, episode)

    def write(self, index: int, episode: Episode) -> Path:
        """Write `episode` as number `index`, whole or not at all."""
        return self.put(index, episode_bytes(episode))

    def put(self, index: int, content: bytes) -> Path:
        """Write what `episode_bytes` has made, perhaps on another machine, as number `index`, whole or not at all."""
        writable_folder(self.path)
        file = self.path / f"{index:08d}.h5"
        write_bytes(file, content)
        return file

    def sweep(self) -> None:
        """Remove what killed writers have left; call it while nobody writes."""
        for part in self.path.glob(".*.part*"):
            part.unlink(missing_ok=True)

    @property
    def real_frames(self) -> int:
        """Real frames consumed by all episodes, action repeat counted."""
        return sum(read_attributes(file)["real_frames"] for file in self.files())

    def frame(self, index: int, step: int) -> NDArray[Any]:
        """Observation `step` of episode `index`, without reading the rest of the episode."""
        file = self.files()[index]
        with _open(file) as data:
            return np.asarray(data["observations"][step])


def episode_bytes(episode: Episode) -> bytes:
    """The file of one episode: gzip-1, a chunk per 16 frames."""
    h5py = _h5py()
    file = io.BytesIO()
    with h5py.File(file, "w") as data:
        observations = episode.observations
        chunk = (min(_CHUNK_FRAMES, len(observations)), *observations.shape[1:])
        data.create_dataset("observations", data=observations, chunks=chunk, compression="gzip", compression_opts=1)
        data["actions"] = episode.actions
        data["rewards"] = episode.rewards
        data.attrs["format_version"] = FORMAT_VERSION
        for name in ("terminated", "truncated", "seed", "policy", "real_frames", "final_observation_valid"):
            data.attrs[name] = getattr(episode, name)
        data.attrs["undiscounted_return"] = episode.undiscounted_return
    return file.getvalue()


def read_episode(file: str | Path) -> Episode:
    """The episode in `file`.

    Raises:
        EpisodeFileError: The file is cut short, not HDF5, of a newer format, or lacks a field.
    """
    file = Path(file)
    attributes = read_attributes(file)
    attributes.pop("undiscounted_return")
    with _open(file) as data:
        try:
            arrays: dict[str, Any] = {name: np.asarray(data[name]) for name in _FIELDS}
        except (OSError, RuntimeError, KeyError) as error:
            raise EpisodeFileError(f"{file}: cannot be read ({error}); delete it and collect again") from error
    try:
        return Episode(**arrays, **attributes)
    except ValueError as error:
        raise EpisodeFileError(f"{file}: {error}") from error


def read_attributes(file: Path) -> dict[str, Any]:
    """Provenance and flags of the episode in `file`, without its frames."""
    with _open(file) as data:
        try:
            found = dict(data.attrs)
        except (OSError, RuntimeError, KeyError) as error:
            raise EpisodeFileError(f"{file}: cannot be read ({error}); delete it and collect again") from error
    version = int(found.get("format_version", 0))
    if version > FORMAT_VERSION:
        raise EpisodeFileError(
            f"{file}: format_version {version}, this dreamenv reads up to {FORMAT_VERSION}. Upgrade dreamenv."
        )
    try:
        return {
            "terminated": bool(found["terminated"]),
            "truncated": bool(found["truncated"]),
            "seed": int(found["seed"]),
            "policy": str(found["policy"]),
            "real_frames": int(found["real_frames"]),
            "final_observation_valid": bool(found["final_observation_valid"]),
            "undiscounted_return": float(found["undiscounted_return"]),
        }
    except KeyError as error:
        raise EpisodeFileError(f"{file}: no attribute {error}; it is not an episode of dreamenv") from error


def read_steps(file: Path) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Actions `[T, A]` or `[T]` and rewards `[T]` of the episode in `file`, without its frames.

    Raises:
        EpisodeFileError: The file is cut short, not HDF5, or lacks a field.
    """
    with _open(file) as data:
        try:
            return np.asarray(data["actions"]), np.asarray(data["rewards"])
        except (OSError, RuntimeError, KeyError) as error:
            raise EpisodeFileError(f"{file}: cannot be read ({error}); delete it and collect again") from error


def _open(file: Path) -> Any:
    try:
        return _h5py().File(file, "r")
    except OSError as error:
        raise EpisodeFileError(f"{file}: not a whole HDF5 file ({error}); delete it and collect again") from error


@dataclass(frozen=True)
class EpisodeCache:
    """All episodes of a store as flat arrays. Episode e has its T+1 observations at `first[e]` and its T steps at
    `first[e] - e`.

    Attributes:
        observations: `[N + E, ...]` memmap, uint8 pictures or float32 vectors.
        actions: `[N, A]` float32 or `[N]` int64.
        rewards: `[N]` float32.
        first: `[E]` int64, row of each episode's first observation.
        lengths: `[E]` int64, T of each episode.
        terminated: `[E]` bool.
        final_valid: `[E]` bool, False where the last observation repeats the one before.
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    first: NDArray[np.int64]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    final_valid: NDArray[np.bool_]

    @property
    def episodes(self) -> int:
        """E."""
        return len(self.lengths)

    @property
    def first_step(self) -> NDArray[np.int64]:
        """`[E]` row of each episode's first action and reward."""
        return self.first - np.arange(len(self.first))


def build_cache(store: EpisodeStore, path: str | Path) -> EpisodeCache:
    """The memmap cache of `store` in folder `path`, built when the store's files have changed since.

    Its two files are named after the store's, and each appears whole, so that several processes may build and read at
    once. What is left of other contents of the store, and of builds that were killed, is removed.

    Raises:
        EpisodeFileError: There are no episodes, one is damaged, holds a number that is not finite, or is of another
            shape than the others.
        StorageError: `path` cannot be written to.
    """
    files = store.files()
    if not files:
        raise EpisodeFileError(f"{store.path}: no episodes; run `dreamenv collect` first")
    stamps = [(str(file.relative_to(store.path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    name = hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:32]
    folder = Path(path)
    index, frames = folder / f"index-{name}.npz", folder / f"observations-{name}.npy"
    found = _read_cache(index, frames)
    if found is None:
        writable_folder(folder)
        _write_cache(files, index, frames)
        _sweep_caches(folder, keep={index.name, frames.name})
        found = _read_cache(index, frames)
    if found is None:
        raise EpisodeFileError(f"{folder}: the cache was damaged while it was read; run the command again")
    return found


def _read_cache(index: Path, frames: Path) -> EpisodeCache | None:
    """The cache in these files; None for one that is missing or damaged, which is no loss."""
    try:
        with np.load(index, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return EpisodeCache(observations=np.load(frames, mmap_mode="r"), **arrays)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None


def _write_cache(files: list[Path], index: Path, frames_file: Path) -> None:
    shape, dtype = _observation_layout(files)
    actions, rewards, first, lengths, terminated, final_valid = [], [], [], [], [], []
    with atomic(frames_file) as temporary:
        frames = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
        row = 0
        for file in files:
            episode = read_episode(file)
            _check_finite(file, episode)
            frames[row : row + len(episode) + 1] = episode.observations
            actions.append(episode.actions)
            rewards.append(episode.rewards)
            first.append(row)
            lengths.append(len(episode))
            terminated.append(episode.terminated)
            final_valid.append(episode.final_observation_valid)
            row += len(episode) + 1
        frames.flush()
        del frames
    arrays: dict[str, Any] = {
        "actions": np.concatenate(actions),
        "rewards": np.concatenate(rewards).astype(np.float32),
        "first": np.array(first, np.int64),
        "lengths": np.array(lengths, np.int64),
        "terminated": np.array(terminated, bool),
        "final_valid": np.array(final_valid, bool),
    }
    with atomic(index) as temporary:
        np.savez(temporary, **arrays)


def _sweep_caches(folder: Path, *, keep: set[str]) -> None:
    """Remove caches of other contents, which whoever has mapped them keeps, and what killed builds have left."""
    others = {*folder.glob("index-*.npz"), *folder.glob("observations-*.npy")}
    # Of builds at work elsewhere the process cannot be asked for; none takes a day
    killed = {part for part in folder.glob(".*.part*") if time.time() - part.stat().st_mtime > _SECONDS_OF_A_BUILD}
    for file in others | killed:
        if file.name not in keep:
            file.unlink(missing_ok=True)


def _check_finite(file: Path, episode: Episode) -> None:
    """Refuse what no collection records; a file may come from elsewhere."""
    for name in _FIELDS:
        array = getattr(episode, name)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            step = int(np.argwhere(~np.isfinite(array))[0][0])
            raise EpisodeFileError(
                f"{file}: {name} hold {array[step]} at step {step}, expected finite numbers; delete the file"
            )


def _observation_layout(files: list[Path]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    rows, shape, dtype = 0, None, None
    for file in files:
        with _open(file) as data:
            found = data["observations"]
            if shape is not None and (found.shape[1:], found.dtype) != (shape, dtype):
                raise EpisodeFileError(
                    f"{file}: observations {found.shape[1:]} {found.dtype}, others in this store have {shape} {dtype}"
                )
            shape, dtype = found.shape[1:], found.dtype
            rows += found.shape[0]
    return (rows, *(shape or ())), np.dtype(dtype)
