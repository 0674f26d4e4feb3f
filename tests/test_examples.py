"""The examples run in their order, each on what the one before has left; small, to be quick."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RunPython
from tests.fakes import trained_like_world_model, write_registry

pytestmark = [pytest.mark.slow, pytest.mark.integration]


def test_every_example_is_run_here(root: Path) -> None:
    names = [path.name for path in sorted((root / "examples").glob("*.py"))]
    text = Path(__file__).read_text(encoding="utf-8")
    assert names == [
        "01_make_a_dream.py",
        "02_collect_and_train.py",
        "03_evolve_in_the_dream.py",
        "04_score_in_reality.py",
        "05_ppo_with_sb3.py",
    ]
    assert all(text.count(name) > 1 for name in names)


def test_make_a_dream(run_python: RunPython, root: Path, tmp_path: Path) -> None:
    registry = write_registry(tmp_path, "DreamOwn-v0", trained_like_world_model())
    start = (
        "import os, runpy, sys; os.environ['DREAMENV_REGISTRY'] = sys.argv[1]; sys.argv = sys.argv[2:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    output = run_python("-c", start, registry, root / "examples" / "01_make_a_dream.py", "DreamOwn-v0").stdout
    assert "DreamOwn-v0: features (12,)" in output
    assert "DreamOwn-v0 × 64: features (64, 12)" in output


def test_from_real_episodes_to_a_score(run_python: RunPython, root: Path, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    examples = root / "examples"
    shown = []
    for name, options in (
        ("02_collect_and_train.py", ["--frames", "400", "--steps", "10"]),
        ("03_evolve_in_the_dream.py", ["--generations", "2"]),
        ("04_score_in_reality.py", ["--episodes", "2"]),
        ("05_ppo_with_sb3.py", ["--steps", "100", "--episodes", "1"]),
    ):
        shown.append(run_python(examples / name, "--out", tmp_path, *options).stdout)
    collected, evolved, scored, ppo = shown
    assert "latent loss on held-out episodes" in collected
    assert evolved.count("generation ") == 2
    assert "in reality, the agent:" in scored
    assert "in reality, a random policy:" in scored
    assert "PPO, trained on 2048 dreamed actions" in ppo
