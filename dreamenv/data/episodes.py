"""The store of real episodes: one lossless HDF5 file an episode, and a memmap cache of them for training."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from dreamenv.data.episode_file import dataset, episode_bytes, open_file, read_attributes, read_episode
from dreamenv.errors import EpisodeFileError
from dreamenv.files import atomic, fingerprint, read_bytes, sha256_of, writable_folder, write_bytes
from dreamenv.types import Episode

# Where damaged episodes are put
ASIDE = "damaged"
_MOST_INDEX = 8 << 30
_NUMBERED = re.compile(r"[0-9]+\.h5$")
_SECONDS_OF_A_BUILD = 24 * 3600
_ROWS_AT_ONCE = 1024
# What reading a damaged .npz raises: RuntimeError for a part that seems encrypted or of an unknown compression,
# zlib's and lzma's for one that seems compressed, MemoryError for an array that seems enormous
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, MemoryError),
    *(BadZipFile, zlib.error, lzma.LZMAError),
)


class EpisodeStore:
    """A folder of episode files `00000000.h5`, `00000001.h5`, ... in the order in which they were collected.

    Folders within it (the rounds of a loop) belong to the store, in the order of their names.

    A file appears under its name only when it is whole, so a killed writer leaves no half an episode behind.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()  # an environment's reset may change the folder while a thread writes

    def files(self) -> list[Path]:
        """Episode files in order."""
        return sorted(file for file in self.path.rglob("*.h5") if _NUMBERED.match(file.name) and _is_of_store(file))

    def own_files(self) -> list[Path]:
        """Those that lie in the folder itself."""
        return sorted(file for file in self.path.glob("*.h5") if _NUMBERED.match(file.name))

    def __len__(self) -> int:
        return len(self.files())

    def __iter__(self) -> Iterator[Episode]:
        return (read_episode(file) for file in self.files())

    def __getitem__(self, index: int) -> Episode:
        return read_episode(self.files()[index])

    def file(self, number: int) -> Path:
        """Where episode `number` of the folder itself lies, if it is there."""
        return self.path / f"{number:08d}.h5"

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
        file = self.file(index)
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
        with open_file(file) as data:
            return np.asarray(dataset(file, data, "observations")[step])

    def damaged(self) -> dict[Path, str]:
        """Files of episodes that cannot be read, with the reason; every file is read."""
        found = {file: _damage(file) for file in self.files()}
        return {file: reason for file, reason in found.items() if reason is not None}

    def set_aside(self, file: Path) -> Path:
        """Move an episode's file into the folder `damaged` next to it, where the store does not look."""
        folder = writable_folder(file.parent / ASIDE)
        target = folder / file.name
        number = 0
        while target.exists():
            number += 1
            target = folder / f"{file.name}.{number}"
        return file.rename(target)


def _damage(file: Path) -> str | None:
    try:
        read_episode(file)
    except EpisodeFileError as error:
        return str(error)
    return None


def _is_of_store(file: Path) -> bool:
    return file.parent.name != ASIDE


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

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any number of the episodes."""
        seen = self.observations
        arrays = (self.lengths, self.actions, self.rewards, self.terminated, self.final_valid)
        rows = (seen[first : first + _ROWS_AT_ONCE] for first in range(0, len(seen), _ROWS_AT_ONCE))
        return fingerprint(np.ascontiguousarray(part).tobytes() for part in (*arrays, *rows))


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
        with np.load(io.BytesIO(read_bytes(index, most=_MOST_INDEX)), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        sums = str(arrays.pop("sums"))
        if sums != _index_sum(arrays, sha256_of(frames)):
            return None
        return EpisodeCache(observations=np.load(frames, mmap_mode="r"), **arrays)
    except _DAMAGED:
        return None


def _index_sum(arrays: dict[str, Any], frames: str) -> str:
    """One sum of the index and of the frames, whose own is `frames`."""
    return fingerprint({"frames": frames.encode(), **{name: array.tobytes() for name, array in arrays.items()}})


def _write_cache(files: list[Path], index: Path, frames_file: Path) -> None:
    shape, dtype = _observation_layout(files)
    actions: list[NDArray[Any]] = []
    rewards, first, lengths, terminated, final_valid = [], [], [], [], []
    # Written and not mapped: of a mapped file that finds the disk full, the system kills the process
    with atomic(frames_file) as temporary, temporary.open("wb") as frames:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(frames, header)
        row = 0
        for file in files:
            episode = read_episode(file)
            _check_like_the_first(file, episode.actions, actions)
            frames.write(episode.observations.astype(dtype, copy=False).tobytes())
            actions.append(episode.actions)
            rewards.append(episode.rewards)
            first.append(row)
            lengths.append(len(episode))
            terminated.append(episode.terminated)
            final_valid.append(episode.final_observation_valid)
            row += len(episode) + 1
    arrays: dict[str, Any] = {
        "actions": np.concatenate(actions),
        "rewards": np.concatenate(rewards).astype(np.float32),
        "first": np.array(first, np.int64),
        "lengths": np.array(lengths, np.int64),
        "terminated": np.array(terminated, bool),
        "final_valid": np.array(final_valid, bool),
    }
    with atomic(index) as temporary:
        np.savez(temporary, sums=np.array(_index_sum(arrays, sha256_of(frames_file))), **arrays)


def _check_like_the_first(file: Path, actions: NDArray[Any], others: list[NDArray[Any]]) -> None:
    if others and (actions.shape[1:], actions.dtype) != (others[0].shape[1:], others[0].dtype):
        raise EpisodeFileError(
            f"{file}: actions {actions.shape[1:]} {actions.dtype}, others in this store have {others[0].shape[1:]} "
            f"{others[0].dtype}"
        )


def _sweep_caches(folder: Path, *, keep: set[str]) -> None:
    """Remove caches of other contents, which whoever has mapped them keeps, and what killed builds have left."""
    others = {*folder.glob("index-*.npz"), *folder.glob("observations-*.npy")}
    # Of builds at work elsewhere the process cannot be asked for; none takes a day
    killed = {part for part in folder.glob(".*.part*") if time.time() - part.stat().st_mtime > _SECONDS_OF_A_BUILD}
    for file in others | killed:
        if file.name not in keep:
            file.unlink(missing_ok=True)


def _observation_layout(files: list[Path]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    rows, shape, dtype = 0, None, None
    for file in files:
        with open_file(file) as data:
            found = dataset(file, data, "observations")
            if shape is not None and (found.shape[1:], found.dtype) != (shape, dtype):
                raise EpisodeFileError(
                    f"{file}: observations {found.shape[1:]} {found.dtype}, others in this store have {shape} {dtype}"
                )
            shape, dtype = found.shape[1:], found.dtype
            rows += found.shape[0]
    return (rows, *(shape or ())), np.dtype(dtype)
