"""The modules of docs/extensions, which are no package, for tests."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def extension(name: str) -> ModuleType:
    """The module `name` of docs/extensions."""
    return _module(DOCS / "extensions", name)


def docs_script(name: str) -> ModuleType:
    """The script `name` of docs, as a module."""
    return _module(DOCS, name)


def _module(folder: Path, name: str) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    return importlib.import_module(name)
