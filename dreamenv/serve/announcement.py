"""What is printed where the server is started."""

from __future__ import annotations

import io
from collections.abc import Iterator

import segno


def announcement(name: str, address: str, *, qr_code: bool) -> Iterator[str]:
    """Lines that say where the page is.

    Args:
        name: The dream's id.
        address: The page's, token included.
        qr_code: Whether to draw the address for phones.
    """
    yield f"{name} at {address}"
    if qr_code:
        drawn = io.StringIO()
        segno.make(address, error="l", micro=False).terminal(drawn, compact=True, border=2)
        yield from drawn.getvalue().splitlines()
    yield "Ctrl-C ends it."
