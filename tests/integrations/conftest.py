"""The dreams that other libraries are tried on, and a Python in which to try them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dreamenv
from tests.fakes import write_registry
from tests.integrations.match_dream import ID, match_dream

RunLibrary = Callable[..., str]


def _as_it_is(entry: dict[str, Any]) -> None:
    entry["dream"] |= {"temperature": 1.0, "start": "initial"}


@pytest.fixture(scope="session")
def match_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """registry.yaml of the matching dream, which is registered in this process too."""
    path = write_registry(tmp_path_factory.mktemp("match"), ID, match_dream(), change=_as_it_is)
    dreamenv.register(path)
    return path


@pytest.fixture
def run_library(match_registry: Path, root: Path, tmp_path: Path) -> RunLibrary:
    """Run `python ARGUMENTS` in `tmp_path`, where the matching dream is known, and return what it printed.

    Fails the test with the output when the exit status is not 0.
    """

    def run(*arguments: str | Path, timeout: float = 1800) -> str:
        environment = os.environ | {
            "DREAMENV_REGISTRY": str(match_registry),
            "PYTHONPATH": str(root),
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            # A busy machine takes longer than Ray waits by default.
            "RAY_raylet_start_wait_time_s": "600",
        }
        command = [sys.executable, *map(str, arguments)]
        result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=timeout)
        if result.returncode != 0:
            pytest.fail(f"{command} exited with {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False)
        return result.stdout

    return run
