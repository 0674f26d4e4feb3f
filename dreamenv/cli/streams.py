"""Standard output and error, whatever their encoding: a figure is never lost for want of a character."""

from __future__ import annotations

import codecs
import sys
import warnings
from typing import TextIO

# What the messages of this package say, in ASCII
_IN_ASCII = {"±": "+-", "τ": "tau", "σ": "sigma", "ρ": "rho", "²": "^2", "–": "-", "→": "->", "≥": ">=", "×": "x"}
_HANDLER = "dreamenv.ascii"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(character, "?") for character in missing), error.end


def prepare_streams() -> None:
    """Let both streams write anything, and show a warning as one line."""
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)
    warnings.showwarning = _show


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    print(f"dreamenv: {category.__name__}: {message}", file=sys.stderr if file is None else file)
