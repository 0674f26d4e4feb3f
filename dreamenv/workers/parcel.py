"""Files that travel with a setup: a worker on another machine lays them out again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError

# Of what a worker is to be sent: more is a mistake, such as a folder of episodes
_MOST_BYTES = 2_000_000_000


@dataclass(frozen=True, eq=False)
class Parcel:
    """The content of a file or of a folder.

    Attributes:
        name: Of the file or folder.
        files: Bytes `[n]` uint8 of each file, by its path below the folder; by "" where it is one file. As arrays they
            lie once in the memory of a node, whatever the number of its workers.
    """

    name: str
    files: dict[str, NDArray[np.uint8]]

    @classmethod
    def of(cls, path: str | Path, *, without: str | None = None) -> Parcel:
        """The file or folder at `path` with the folders within it, but for those of the name `without`.

        Raises:
            ConfigurationError: It is not there, or larger than what is sent to a worker.
        """
        path = Path(path).resolve()
        if not path.exists():
            raise ConfigurationError(f"{path}: no such file or folder to send to the workers")
        found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        found = [file for file in found if without not in file.relative_to(path.parent).parts]
        size = sum(file.stat().st_size for file in found)
        if size > _MOST_BYTES:
            raise ConfigurationError(f"{path}: {size:,} bytes to send to each node; expected at most {_MOST_BYTES:,}")
        files = {
            "" if file == path else file.relative_to(path).as_posix(): np.frombuffer(file.read_bytes(), np.uint8)
            for file in found
        }
        return cls(path.name, files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(content.nbytes for content in self.files.values())

    def lay_out(self, folder: Path) -> Path:
        """Write the file or folder into `folder`; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        top = folder / self.name
        if "" not in self.files:
            top.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            file = top / name if name else top
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.tobytes())
        return top
