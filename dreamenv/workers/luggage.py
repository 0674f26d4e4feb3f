"""What a worker on another machine needs beside the package: the setup, and the user's own modules."""

from __future__ import annotations

import importlib.util
import io
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_INSTALLED = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")})


def pickle_and_modules(content: Any) -> tuple[NDArray[np.uint8], set[str]]:
    """`content` pickled, as bytes `[n]`, and the modules whose classes and functions it names.

    Classes and functions of the main module go along by value, since no other machine has it.
    """
    from ray import cloudpickle

    found: set[str] = set()

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc,name-defined,unused-ignore]
        def reducer_override(self, value: Any) -> Any:
            if isinstance(module := getattr(value, "__module__", None), str):
                found.add(module)
            found.add(type(value).__module__)
            return super().reducer_override(value)

    file = io.BytesIO()
    Pickler(file).dump(content)
    return np.frombuffer(file.getvalue(), np.uint8), found


def own_modules(names: Iterable[str]) -> dict[str, Path]:
    """File or folder of each module among `names` that is neither installed, nor Python's, nor this package.

    Of a module within a package the whole package counts.
    """
    found: dict[str, Path] = {}
    for top in sorted({name.partition(".")[0] for name in names} - {"dreamenv", "__main__", ""}):
        spec = importlib.util.find_spec(top)
        if spec is None or spec.origin in ("built-in", "frozen"):
            continue
        places = list(spec.submodule_search_locations or ([spec.origin] if spec.origin else []))
        path = Path(places[0]).resolve() if places else None
        if path is not None and not any(path.is_relative_to(folder) for folder in _INSTALLED):
            found[top] = path
    return found
