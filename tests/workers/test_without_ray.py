"""A cluster that is asked for where Ray is missing."""

from __future__ import annotations

import sys

import pytest

from dreamenv.errors import MissingExtraError
from dreamenv.workers import run_tasks
from tests.workers.test_workers import make_square


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'dreamenv\[ray\]'"):
        list(run_tasks([1], make_square, 1, workers="ray"))
