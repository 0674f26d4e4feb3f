"""The modules of docs/extensions, which are no package, for tests."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def extension(name: str) -> ModuleType:
    """The module `name` of docs/extensions."""
    folder = str(DOCS / "extensions")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)
