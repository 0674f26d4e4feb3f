"""What all tests share: no screen, no sound, a folder of their own, steady hypothesis runs, and a Python outside."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The processes of a parallel run share the cores; with a thread for each core they would starve each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow now and then; a deadline would fail for that.
settings.register_profile("dreamenv", deadline=None, print_blob=True)
settings.load_profile("dreamenv")

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    """A headless browser for all tests of pages, which are skipped where `tests.serve.browser.missing` says so."""
    from tests.serve.browser import browser

    with browser() as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def folder_of_this_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder: Doom leaves files where it starts, and two that start in a fresh folder at once may hang."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("current")
    os.chdir(folder)
    yield folder
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def no_measured_precision(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is faster on this machine decides nothing: for "auto" both precisions take the same time here."""
    from dreamenv.memory import precision

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(precision.CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        patch.setattr(precision, "seconds_of_a_step", lambda *_: dict.fromkeys(precision.PRECISIONS, 1.0))
        yield


@pytest.fixture(autouse=True)
def the_same_weights_each_time() -> None:
    """Weights that a test draws without a seed do not depend on which tests ran before it in its process."""
    import torch

    torch.manual_seed(0)


@pytest.fixture
def own_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten afterwards."""
    import gymnasium as gym

    from dreamenv import registry

    monkeypatch.setattr(registry, "_entries", dict(registry.entries()))
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


@pytest.fixture(scope="session")
def run_python(tmp_path_factory: pytest.TempPathFactory, root: Path) -> RunPython:
    """Run `python ARGUMENTS` in a folder of its own, with dreamenv from `package` (the checkout by default).

    Fails the test with the output when the exit status is not 0.
    """

    def run(*arguments: str | Path, package: Path = root, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        folder = tmp_path_factory.mktemp("outside")
        environment = {name: value for name, value in os.environ.items() if name != "DREAMENV_REGISTRY"}
        environment["PYTHONPATH"] = str(package)
        command = [sys.executable, *map(str, arguments)]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
        if result.returncode != 0:
            pytest.fail(f"{command} exited with {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False)
        return result

    return run
