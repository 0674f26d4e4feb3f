"""The page for own environments: its worked examples run as they are written, with budgets of a test."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamenv.bundle_config import read_config
from tests.command_line import call

pytestmark = pytest.mark.integration

_MDN = ["memory.hidden_size=4", "memory.mixtures=1", "fit_memory.steps=2", "fit_memory.sequence_length=12"]
_PICTURES = ["vision.channels=2", "vision.latent_size=2", "fit_vision.steps=2", "fit_vision.batch_size=4"]
_ENSEMBLE = ["memory.members=2", "memory.elites=1", "memory.hidden_size=4", "fit.max_epochs=1"]
# What each verb is given beyond what the page says: later options replace earlier ones
_SMALL = {
    "init": ["--steps", "20"],
    "train": ["--frames", "260", "--workers", "0"],
    "evolve": ["--generations", "1", "--population", "4", "--rollouts", "1", "--horizon", "3", "--workers", "0"],
    "train-agent": ["--steps", "1", "--horizon", "2", "--workers", "0"],
    "eval": ["--episodes", "2", "--workers", "0"],
}


def section(root: Path, title: str) -> str:
    text = (root / "docs" / "train_your_own.md").read_text(encoding="utf-8")
    _, _, rest = text.partition(f"\n## Worked example: {title}\n")
    assert rest, f"the page has no worked example {title!r}"
    return rest.partition("\n## ")[0]


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each code block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: None) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    yield tmp_path
    for name in {"room", "catch", "reach"} - modules:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("title", "settings", "actions", "latents"),
    [
        ("a vector", _MDN, {"kind": "box", "low": [0.0], "high": [1.0], "dtype": "float32"}, 2),
        ("pictures", _MDN + _PICTURES, {"kind": "discrete", "n": 3, "start": 0}, 2),
        ("a goal in a Dict", _ENSEMBLE, {"kind": "box", "low": [-2.0] * 2, "high": [2.0] * 2, "dtype": "float32"}, 6),
    ],
)
def test_a_worked_example_runs(
    root: Path, folder: Path, title: str, settings: list[str], actions: dict[str, object], latents: int
) -> None:
    commands: list[str] = []
    for language, content in blocks(section(root, title)):
        named = re.match(r"# (\w+\.(?:py|yaml))\n", content)
        if named is not None:
            Path(named[1]).write_text(content, encoding="utf-8")
        elif language == "bash":
            commands += content.strip().splitlines()
    verbs = []
    for command in commands:
        program, verb, *arguments = shlex.split(command)
        assert program == "dreamenv"
        more = [word for setting in settings for word in ("--set", setting)] if verb == "train" else []
        shown = call(verb, *arguments, *_SMALL[verb], *more).stdout
        verbs.append(verb)
    assert verbs[-1] == "eval"
    (run,) = (folder / "runs").iterdir()
    assert f"agent runs/{run.name}/agent" in shown
    config = read_config(run / "bundle")
    assert config["action_space"] == actions
    assert config["vision"]["latent_size"] == latents
