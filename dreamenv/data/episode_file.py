"""One episode as one lossless HDF5 file, with a sum of the whole in front.

HDF5 lets a file begin with a block of the user's. It holds the sum, so that HDF5, which may crash over damaged bytes,
is given none.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from dreamenv.errors import EpisodeFileError, missing_extra
from dreamenv.files import read_bytes
from dreamenv.schema import Strict, checked
from dreamenv.types import Episode

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT_VERSION = 2
FIELDS = ("observations", "actions", "rewards")
_CHUNK_FRAMES = 16
_BLOCK, _BEGIN = 512, b"dreamenv episode, sha256 of the rest: "
_MOST_BYTES = 16 << 30
_SET_ASIDE = "set it aside with `dreamenv data check --set-aside`, and collect again"
# What gzip can make of a byte, and room for a file's own structure
_MOST_EXPANSION, _ROOM = 1100, 1 << 20
_KINDS = {"observations": "fiu", "actions": "fi", "rewards": "f"}


class AttributesSection(Strict):
    """What an episode's file says beside its arrays."""

    format_version: int
    terminated: bool
    truncated: bool
    final_observation_valid: bool
    seed: int
    policy: str
    real_frames: PositiveInt
    undiscounted_return: float = Field(allow_inf_nan=False)


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise missing_extra("h5py", "train") from error
    return h5py


def episode_bytes(episode: Episode) -> bytes:
    """The file of one episode: gzip-1, a chunk per 16 frames, a checksum for each chunk.

    Raises:
        EpisodeFileError: A number is not finite, or an array of another shape or type than an episode's.
    """
    h5py = _h5py()
    arrays = {name: np.ascontiguousarray(getattr(episode, name)) for name in FIELDS}
    _check_arrays(arrays, "the episode", "")
    attributes: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "terminated": bool(episode.terminated),
        "truncated": bool(episode.truncated),
        "final_observation_valid": bool(episode.final_observation_valid),
        "seed": int(episode.seed),
        "policy": str(episode.policy),
        "real_frames": int(episode.real_frames),
        "undiscounted_return": episode.undiscounted_return,
    }
    file = io.BytesIO()
    with h5py.File(file, "w", userblock_size=_BLOCK) as data:
        for name, array in arrays.items():
            settings: dict[str, Any] = {"fletcher32": True}
            if name == "observations":
                settings |= {"compression": "gzip", "compression_opts": 1}
            rows = _CHUNK_FRAMES if name == "observations" else len(array)
            data.create_dataset(name, data=array, chunks=(max(1, min(rows, len(array))), *array.shape[1:]), **settings)
        for name, value in attributes.items():
            data.attrs[name] = value
    return sealed(file.getvalue())


def sealed(content: bytes) -> bytes:
    """An episode's file with the sum of all that is behind the block at its beginning."""
    rest = content[_BLOCK:]
    return (_BEGIN + hashlib.sha256(rest).hexdigest().encode()).ljust(_BLOCK, b"\0") + rest


def read_episode(file: str | Path) -> Episode:
    """The episode in `file`.

    Raises:
        EpisodeFileError: The file is cut short, not HDF5, of another format, or not what was written; the message says
            how to set it aside.
    """
    file = Path(file)
    with open_file(file) as data:
        attributes = _attributes(file, data)
        arrays: dict[str, Any] = {name: _array(file, data, name) for name in FIELDS}
    _check_arrays(arrays, str(file))
    kept = attributes.model_dump(exclude={"format_version", "undiscounted_return"})
    try:
        return Episode(**arrays, **kept)
    except ValueError as error:
        raise EpisodeFileError(f"{file}: {error}; {_SET_ASIDE}") from error


def read_attributes(file: Path) -> dict[str, Any]:
    """Provenance and flags of the episode in `file`, without its arrays.

    Raises:
        EpisodeFileError: As `read_episode`.
    """
    with open_file(file) as data:
        return _attributes(file, data).model_dump(exclude={"format_version"})


def read_steps(file: Path) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Actions `[T, A]` or `[T]` and rewards `[T]` of the episode in `file`, without its frames.

    Raises:
        EpisodeFileError: As `read_episode`.
    """
    with open_file(file) as data:
        found = {name: _array(file, data, name) for name in ("actions", "rewards")}
    _check_arrays(found, str(file))
    return found["actions"], found["rewards"]


@contextmanager
def open_file(file: Path) -> Iterator[Any]:
    """An episode's file for reading; what HDF5 raises about it becomes an EpisodeFileError that names it."""
    try:
        _check_sum(read_bytes(file, most=_MOST_BYTES))
        with _h5py().File(file, "r") as data:
            yield data
    # HDF5 finds damage late, and h5py has many ways to say so
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, EpisodeFileError):
            raise
        raise EpisodeFileError(f"{file}: cannot be read ({_first_line(error)}); {_SET_ASIDE}") from error


def _check_sum(content: bytes) -> None:
    begin, wanted = content[: len(_BEGIN)], content[len(_BEGIN) : len(_BEGIN) + 64]
    if begin != _BEGIN:
        raise ValueError("it does not begin as an episode of dreamenv; was it written by another version?")
    found = hashlib.sha256(memoryview(content)[_BLOCK:]).hexdigest().encode()
    if found != wanted:
        raise ValueError("its sha256 is not the one it was written with")


def dataset(file: Path, data: Any, name: str) -> Any:
    """The array `name` of an open file, which is not read yet.

    Raises:
        EpisodeFileError: It is missing, or far larger than the file could hold.
    """
    h5py = _h5py()
    found = data.get(name)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise EpisodeFileError(f"{file}: no array {name!r}; it is not an episode of dreamenv; {_SET_ASIDE}")
    if found.external or found.is_virtual:
        raise EpisodeFileError(f"{file}: {name} lie in another file; expected them in this one; {_SET_ASIDE}")
    most = _MOST_EXPANSION * file.stat().st_size + _ROOM
    if found.dtype.kind not in _KINDS[name] or found.size * found.dtype.itemsize > most:
        raise EpisodeFileError(
            f"{file}: {name} have shape {found.shape} and type {found.dtype}, which a file of "
            f"{file.stat().st_size:,} bytes does not hold; {_SET_ASIDE}"
        )
    return found


def _array(file: Path, data: Any, name: str) -> NDArray[Any]:
    return np.ascontiguousarray(dataset(file, data, name)[()])


def _attributes(file: Path, data: Any) -> AttributesSection:
    names = list(data.attrs)
    if "format_version" not in names:
        raise EpisodeFileError(f"{file}: no attribute 'format_version'; it is not an episode of dreamenv; {_SET_ASIDE}")
    found = {name: _plain(file, name, data.attrs[name]) for name in names}
    if found["format_version"] != FORMAT_VERSION:
        raise EpisodeFileError(
            f"{file}: format_version {found['format_version']}, this dreamenv reads {FORMAT_VERSION}. "
            "Upgrade dreamenv, or collect again."
        )
    return checked(AttributesSection, found, file, EpisodeFileError)


def _plain(file: Path, name: str, value: Any) -> Any:
    """An attribute as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (bool, int, float, str)):
        raise EpisodeFileError(f"{file}: {name}: found {type(value).__name__}, expected one value; {_SET_ASIDE}")
    return value


def _check_arrays(arrays: Mapping[str, NDArray[Any]], where: str, advice: str = f"; {_SET_ASIDE}") -> None:
    """Finite numbers, rewards of one axis and actions of one or two."""
    for name, array in arrays.items():
        most = {"rewards": 1, "actions": 2}.get(name, 8)
        if not 1 <= array.ndim <= most or array.dtype.kind not in _KINDS[name]:
            raise EpisodeFileError(f"{where}: {name} have shape {array.shape} and type {array.dtype}{advice}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            step = int(np.argwhere(~np.isfinite(array))[0][0])
            raise EpisodeFileError(
                f"{where}: {name} hold {array[step]} at step {step}, expected finite numbers{advice}"
            )


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
