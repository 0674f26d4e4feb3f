"""The wheel, built by way of the sdist and installed by itself, works outside the checkout."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dreamenv import registry
from tests.conftest import RunPython

MEBIBYTE = 2**20
LARGEST_BUNDLE = 16 * MEBIBYTE
DREAMS = ("DreamCarRacing-v0", "DreamDoom-v0")

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """`python -m build` without arguments makes the sdist, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(root)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list(folder.glob("dreamenv-*.tar.gz"))) == 1
    (built,) = folder.glob("dreamenv-*-py3-none-any.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but the wheel; its dependencies are those of the running Python."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder)]
    result = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def bundle_files(wheel: Path, dream: str) -> dict[str, int]:
    """Names and sizes of a bundle's files in the wheel; skips the test when the checkout has no such bundle."""
    if not (registry.find(dream).checkpoint / "model.safetensors").exists():
        pytest.skip(f"the checkout holds no bundle of {dream}")
    prefix = f"dreamenv/pretrained/{dream}/"
    with zipfile.ZipFile(wheel) as archive:
        return {
            info.filename.removeprefix(prefix): info.file_size
            for info in archive.infolist()
            if info.filename.startswith(prefix)
        }


def test_wheel_holds_the_package_and_nothing_else(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        shipped_registry = archive.read("dreamenv/registry.yaml")
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dreamenv"}
    assert shipped_registry == (root / "registry.yaml").read_bytes()
    assert "dreamenv/py.typed" in names
    modules = {path.relative_to(root).as_posix() for path in (root / "dreamenv").rglob("*.py")}
    assert modules <= set(names)
    published = root / "dreamenv" / "workflows" / "published"
    assert {path.relative_to(root).as_posix() for path in published.rglob("*.*") if path.suffix != ".pyc"} <= set(names)
    templates = {f"dreamenv/figures/templates/{path.name}" for path in (root / "dreamenv/figures/templates").iterdir()}
    assert "dreamenv/figures/templates/base.html" in templates
    assert templates <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_a_package_index_shows_the_readme_whole(wheel: Path, root: Path) -> None:
    """It has no files of the repository: what is left leads to another host or within the page."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    assert "\nDescription-Content-Type: text/markdown\n" in metadata
    assert "\nProject-URL: " in metadata
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert "](docs/" in (root / "README.md").read_text(encoding="utf-8")
    assert "What the models see and dream" not in metadata


@pytest.mark.parametrize("dream", DREAMS)
def test_bundle_is_whole_and_small(wheel: Path, dream: str) -> None:
    files = bundle_files(wheel, dream)
    assert {"config.json", "model.safetensors", "starts.safetensors", "agent.safetensors", "README.md"} <= files.keys()
    assert sum(files.values()) <= LARGEST_BUNDLE, f"{dream}: {sum(files.values()) / MEBIBYTE:.1f} MiB"


def test_import_is_light_and_finds_its_registry(installed: Path, run_python: RunPython) -> None:
    code = """
import json, sys
import dreamenv
light = "torch" not in sys.modules
from dreamenv import registry
print(json.dumps([dreamenv.__file__, light, str(registry.shipped_registry_path()), sorted(registry.entries())]))
"""
    file, light, path, ids = json.loads(run_python("-c", code, package=installed).stdout.splitlines()[-1])
    assert Path(file).is_relative_to(installed)
    assert light, "import dreamenv has imported torch"
    assert Path(path) == installed / "dreamenv" / "registry.yaml"
    assert set(DREAMS) <= set(ids)


def test_command_line_is_installed(installed: Path, run_python: RunPython) -> None:
    assert (installed / "bin" / "dreamenv").exists()
    for arguments in (("-m", "dreamenv"), (installed / "bin" / "dreamenv",)):
        shown = run_python(*arguments, "list", package=installed).stdout
        assert [dream for dream in DREAMS if dream not in shown] == []


@pytest.mark.parametrize("dream", DREAMS)
def test_dreams_run_from_the_wheel_alone(wheel: Path, installed: Path, run_python: RunPython, dream: str) -> None:
    bundle_files(wheel, dream)
    code = f"""
import sys
import gymnasium as gym
import numpy as np

env = gym.make("dreamenv:{dream}")
observation, _ = env.reset(seed=0)
assert env.observation_space.contains(observation)
observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
assert env.observation_space.contains(observation) and np.isfinite(reward)

envs = gym.make_vec("dreamenv:{dream}", num_envs=256)
observations, _ = envs.reset(seed=0)
assert observations.shape == (256, *env.observation_space.shape), observations.shape
for _ in range(3):
    observations, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
assert np.isfinite(observations).all() and rewards.shape == (256,) and np.isfinite(rewards).all()
assert len(np.unique(observations, axis=0)) > 200, "256 dreams of different seeds are not the same dream"

import dreamenv
print(dreamenv.__file__, *(name for name in ("Box2D", "vizdoom", "stable_baselines3") if name in sys.modules))
"""
    file, *heavy = run_python("-c", code, package=installed).stdout.split()
    assert Path(file).is_relative_to(installed)
    assert heavy == [], "a dream needs neither the real environment nor SB3"
