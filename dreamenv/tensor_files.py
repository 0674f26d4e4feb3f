"""safetensors files of ours: the same tensors give the same bytes, and headers are checked before anything is read."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import torch
from pydantic import NonNegativeInt
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dreamenv.errors import BundleError, DreamEnvError
from dreamenv.files import fingerprint, parse_json, read_bytes, write_bytes
from dreamenv.schema import Strict, checked

_MOST_HEADER, _MOST_TENSORS = 16 << 20, 64 << 30
_BYTES = {"BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "F32": 4, "I64": 8, "F64": 8}
_SUM = "sha256"
_FACTORIES = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint})
# Numbers that any allocation counts for, so that a million tiny layers are noticed too
_LEAST = 256
MadeT = TypeVar("MadeT")


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits that change with any number or name, and not with the device."""
    return fingerprint({name: part.detach().cpu().contiguous().numpy().tobytes() for name, part in tensors.items()})


class TensorSection(Strict):
    """One tensor of a file: its type as safetensors names it, and its shape."""

    dtype: Literal["BOOL", "U8", "I8", "I16", "F16", "BF16", "I32", "F32", "I64", "F64"]
    shape: list[NonNegativeInt]

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class _Entry(TensorSection):
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


class _Entries(Strict):
    tensors: dict[str, _Entry]
    metadata: dict[str, str]


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its tensors.

    Attributes:
        tensors: By name.
        metadata: Texts by name.
        size: Bytes of the whole file.
    """

    tensors: dict[str, TensorSection]
    metadata: dict[str, str]
    size: int

    @property
    def elements(self) -> int:
        """Numbers in all tensors."""
        return sum(part.elements for part in self.tensors.values())


def packed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, sealed: bool = False) -> bytes:
    """The file of `tensors` and `metadata`, byte for byte the same for the same content; `sealed` with its own sum."""
    # Copies, since safetensors refuses tensors that share memory
    content = save({name: part.detach().to("cpu", copy=True).contiguous() for name, part in tensors.items()})
    length = int.from_bytes(content[:8], "little")
    data = memoryview(content)[8 + length :]
    header = json.loads(content[8 : 8 + length]) | {"__metadata__": dict(metadata)}
    if sealed:
        header["__metadata__"][_SUM] = _sum_of(header, data)
    return _headed(header) + data


def write_sealed(file: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file that carries its own sum, atomically."""
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, packed(tensors, metadata, sealed=True))


def read_sealed(
    file: Path, sha256: str | None = None, *, error: type[DreamEnvError] = BundleError
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of what `write_sealed` wrote.

    Args:
        file: Where it is.
        sha256: What registry.yaml wants of the whole file; None wants nothing.
        error: What is raised.

    Raises:
        error: The file is missing, cut short, changed since it was written, or of another sum than `sha256`.
    """
    header = read_header(file, error=error)
    content = read_content(file, header, {"registry.yaml": sha256}, error=error)
    check_seal(file, header, content, error=error)
    return tensors_of(content, file, error=error), header.metadata


def check_seal(file: Path, header: Header, content: bytes, *, error: type[DreamEnvError] = BundleError) -> None:
    """Refuse the `content` of a file whose own sum is missing or another.

    Raises:
        error: It is.
    """
    wanted = header.metadata.get(_SUM)
    if wanted is None:
        raise error(f"{file}: its metadata has no {_SUM}; expected a file that dreamenv has written")
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    entries["__metadata__"].pop(_SUM)
    found = _sum_of(entries, memoryview(content)[8 + length :])
    if found != wanted:
        raise error(
            f"{file}: its content has {_SUM} {found}, its metadata wants {wanted}: the file has changed since it was "
            "written. Take another copy, or make it anew."
        )


def read_header(file: Path, *, error: type[DreamEnvError] = BundleError) -> Header:
    """The header of a safetensors file, held against the file's size; no tensor is read.

    Raises:
        error: The file is missing, no regular file, or its header does not fit.
    """
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise error(f"{file}: cannot be read (not a regular file)")
            size = status.st_size
            length = int.from_bytes(opened.read(8), "little")
            if size < 8 or length > min(size - 8, _MOST_HEADER):
                raise error(f"{file}: not a whole safetensors file (cut short?): no header in {size:,} bytes")
            text = opened.read(length)
    except OSError as refused:
        raise error(f"{file}: cannot be read ({refused.strerror})") from refused
    try:
        found = parse_json(text)
    except ValueError as refused:
        raise error(f"{file}: not a whole safetensors file: its header is not JSON: {refused}") from refused
    if not isinstance(found, dict):
        raise error(f"{file}: not a whole safetensors file: its header is {type(found).__name__}, expected an object")
    metadata = found.pop("__metadata__", {})
    entries = checked(_Entries, {"tensors": found, "metadata": metadata}, file, error)
    _check_places(file, entries.tensors, size - 8 - length, error)
    return Header(dict(entries.tensors), entries.metadata, size)


def read_content(
    file: Path, header: Header, sums: Mapping[str, str | None], *, error: type[DreamEnvError] = BundleError
) -> bytes:
    """All bytes of a file whose header has been read, held against the sums that others want of it.

    Args:
        file: Where it is.
        header: Its header.
        sums: By the name of who wants it, a sha256 or None.
        error: What is raised.

    Raises:
        error: It cannot be read, or its sum is another.
    """
    content = read_whole(file, most=header.size, error=error)
    if len(content) < header.size:
        raise error(f"{file}: {len(content):,} bytes, expected {header.size:,}: it has been cut short meanwhile")
    check_sums(file, content, sums, error=error)
    return content


def check_sums(
    file: Path, content: bytes, sums: Mapping[str, str | None], *, error: type[DreamEnvError] = BundleError
) -> None:
    """Refuse the `content` of `file` where its sha256 is not what somebody wants.

    Raises:
        error: It is not.
    """
    wanted = {name: value for name, value in sums.items() if value is not None}
    found = hashlib.sha256(content).hexdigest() if wanted else ""
    for name, value in wanted.items():
        if found != value:
            raise error(
                f"{file}: sha256 is {found}, {name} wants {value}: it was changed, or a save over it was cut off. "
                "Reinstall it, download it or save it again."
            )


def read_whole(file: Path, *, most: int = _MOST_TENSORS, error: type[DreamEnvError] = BundleError) -> bytes:
    """All bytes of a regular file.

    Raises:
        error: It cannot be read or is larger.
    """
    try:
        return read_bytes(file, most=most)
    except OSError as refused:
        raise error(f"{file}: cannot be read ({refused.strerror}); it is missing or incomplete") from refused
    except (ValueError, MemoryError) as refused:
        raise error(f"{file}: {refused or 'too large for the memory'}") from refused


def tensors_of(content: bytes, file: Path, *, error: type[DreamEnvError] = BundleError) -> dict[str, Tensor]:
    """The tensors in the `content` of `file`, all of them finite.

    Raises:
        error: They are not there, or a number is not finite.
    """
    try:
        found = load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as refused:
        raise error(f"{file}: not a whole safetensors file (cut short?): {refused}") from refused
    for name, part in found.items():
        if part.is_floating_point() and not _is_finite(part):
            raise error(f"{file}: tensor {name!r} holds numbers that are not finite; expected finite ones")
    return found


def built_within(build: Callable[[], MadeT], elements: int) -> MadeT:
    """What `build` makes, unless that asks PyTorch for far more than `elements` numbers, which is then not allocated.

    Args:
        build: Makes a module, or what holds one.
        elements: Numbers in the tensors that are to fill the module.

    Raises:
        TooLargeError: The module asks for far more.
    """
    with _Budget(2 * elements + 1_000_000):
        return build()


class TooLargeError(BundleError):
    """A module asks for far more numbers than its file holds."""


class _Budget(TorchFunctionMode):
    """Counts the numbers that PyTorch is asked to allocate, before it does."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self._elements = self._left = elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            size = kwargs.get("size", args[0] if args and not isinstance(args[0], int) else args)
            self._left -= max(_LEAST, math.prod(each for each in size if isinstance(each, int)))
            if self._left < 0:
                raise TooLargeError(f"more than {self._elements:,} numbers are asked for")
        return func(*args, **kwargs)


def _sum_of(header: Mapping[str, Any], data: memoryview) -> str:
    digest = hashlib.sha256(_headed(header))
    digest.update(data)
    return digest.hexdigest()


def _headed(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text


def _is_finite(part: Tensor) -> bool:
    # A sum is several times faster, and finite where all numbers are, unless they are huge
    return math.isfinite(part.sum(dtype=torch.float32)) or bool(torch.isfinite(part).all())


def _check_places(file: Path, entries: Mapping[str, _Entry], size: int, error: type[DreamEnvError]) -> None:
    """The tensors fill the `size` bytes behind the header, one behind the other."""

    def refuse(reason: str) -> NoReturn:
        raise error(f"{file}: not a whole safetensors file (cut short?): {reason}")

    place = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = entry.data_offsets
        if begin != place:
            refuse(f"tensor {name!r} begins at byte {begin}, expected {place}")
        if end - begin != entry.elements * _BYTES[entry.dtype]:
            refuse(f"tensor {name!r} of shape {entry.shape} and type {entry.dtype} has {end - begin:,} bytes")
        place = end
    if place != size:
        refuse(f"{size:,} bytes of tensors, its header wants {place:,}")
