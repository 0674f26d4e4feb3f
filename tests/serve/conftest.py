"""One browser for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve import browser


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """A WebDriver; the tests that use it are skipped where there is no browser."""
    with browser.browser() as found:
        yield found
