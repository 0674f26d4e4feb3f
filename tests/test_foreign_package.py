"""A memory, a vision and a recipe of somebody else's package go through every verb, without an edit of this one."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import yaml

from dreamenv.kinds import Register
from dreamenv.testing import check_memory, check_vision

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.xdist_group("foreign_package")]

ROOT = Path(__file__).resolve().parent.parent
ENTRY_POINTS = """[dreamenv.memory]
foreign_drift = foreign_dreams.model:DriftMemory
[dreamenv.vision]
foreign_linear = foreign_dreams.model:LinearVision
[dreamenv.recipe]
foreign_drift = foreign_dreams.recipe:DriftRecipe
"""
DREAM, TWIN = "DreamPendulum-v1", "LatentPendulum-v1"
LOOP = {
    "rounds": 2,
    "first_frames": 400,
    "greedy_episodes": 1,
    "noisy_episodes": 1,
    "validation_episodes": 1,
    "train": {"replay_starts": 16},
    "agent": {"steps": 3, "batch_size": 4, "horizon": 3, "width": 8},
}


class Elsewhere:
    """A folder outside the tree with the foreign package installed, and the command line started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        site = folder / "site"
        shutil.copytree(ROOT / "tests" / "foreign_dreams", site / "foreign_dreams")
        metadata = site / "foreign_dreams-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-dreams\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join((str(site), str(ROOT))),
            "OMP_NUM_THREADS": "1",
            "DREAMENV_REGISTRY": "",
        }

    def know(self, registry: Path) -> None:
        """Make the dreams of a registry.yaml known from here on."""
        self._environment["DREAMENV_REGISTRY"] = str(registry)

    def python(self, *arguments: str | Path) -> str:
        """What `python ARGUMENTS` prints."""
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=600
        )
        assert process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
        return process.stdout

    def dreamenv(self, *arguments: str | Path) -> str:
        """What `dreamenv ARGUMENTS` prints."""
        return self.python("-m", "dreamenv", *arguments)

    def figures(self, *arguments: str | Path) -> Any:
        """What `dreamenv ARGUMENTS --json FILE` writes."""
        file = self.folder / "figures.json"
        self.dreamenv(*arguments, "--json", file)
        return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """With a trained dream of Pendulum in run/, known by its id, and an agent that was evolved in it."""
    there = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    trained = there.figures(
        "train", "--real", "Pendulum-v1", "--recipe", "foreign_drift", "--frames", "800", "--workers", "0",
        "--set", "steps=60", "--set", "sizes.path=6", "--out", "run",
    )  # fmt: skip
    assert trained["recipe"] == "foreign_drift"
    assert (trained["options"]["steps"], trained["options"]["sizes"]["path"]) == (60, 6)
    there.know(there.folder / "run" / "registry.yaml")
    there.dreamenv(
        "evolve", DREAM, "--generations", "2", "--population", "4", "--rollouts", "2", "--horizon", "10",
        "--tensorboard", "--out", "run/agent",
    )  # fmt: skip
    return there


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package's model.py, imported from the tree: the checks need no installation."""
    monkeypatch.syspath_prepend(ROOT / "tests")
    yield importlib.import_module("foreign_dreams.model")
    for name in ("foreign_dreams", "foreign_dreams.model"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("space", [gym.spaces.Box(-2, 2, (1,)), gym.spaces.Discrete(3, start=1)])
def test_it_keeps_the_contracts(in_this_process: Any, space: gym.Space[Any]) -> None:
    check_memory(in_this_process.DriftMemory(5, 8, 4, space).eval(), space)
    check_vision(in_this_process.LinearVision(3, 5, 12).eval(), torch.randn(4, 3))


def test_nothing_of_it_is_known_here() -> None:
    """Else the tests below would show nothing: what they use is found by entry points alone."""
    assert all("foreign" not in name for what in ("memory", "vision", "recipe") for name in Register(what, {}).names())


def test_the_bundle_is_a_gymnasium_environment(elsewhere: Elsewhere) -> None:
    bundle = elsewhere.folder / "run" / "bundle"
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert config["memory"] == {"kind": "foreign_drift", "embedding_size": 5, "path_size": 6, "draw_size": 4}
    assert config["vision"]["kind"] == "foreign_linear"
    seen = elsewhere.python(
        "-c",
        f"""
import gymnasium as gym, numpy as np, dreamenv
from gymnasium.utils.env_checker import check_env

for name in ("{DREAM}", "{TWIN}"):
    for observation in ("features", "latent", "state"):
        env = gym.make(name, observation=observation)
        check_env(env.unwrapped, skip_render_check=True)
        assert env.reset(seed=0)[0].shape == (10,)
env = gym.make("{DREAM}", start="replay")
env.reset(seed=1)
*_, info = env.step(env.action_space.sample())
assert np.isfinite(info["surprise"])
state = env.unwrapped.get_state()
first = env.step(np.ones(1, np.float32))[0]
env.unwrapped.set_state(state)
assert np.array_equal(env.step(np.ones(1, np.float32))[0], first)
envs = gym.make_vec("{DREAM}", num_envs=8)
envs.reset(seed=0)
print(envs.step(envs.action_space.sample())[0].shape, dreamenv.WorldModel.load("{DREAM}").memory.config()["kind"])
""",
    )
    assert seen.split() == ["(8,", "10)", "foreign_drift"]


@pytest.mark.parametrize("workers", ["0", "1"])
def test_it_is_scored(elsewhere: Elsewhere, workers: str) -> None:
    found = elsewhere.figures("eval", DREAM, "--agent", "run/agent", "--episodes", "2", "--workers", workers)
    assert (found["real_id"], len(found["returns"])) == ("Pendulum-v1", 2)


def test_a_planner_plans_in_it(elsewhere: Elsewhere) -> None:
    agent = "planner:cem,horizon=3,candidates=6,iterations=1,elites=2"
    found = elsewhere.figures("eval", DREAM, "--agent", agent, "--episodes", "1", "--workers", "0")
    assert -2000 < found["mean"] < 0


def test_its_gap_is_measured(elsewhere: Elsewhere) -> None:
    found = elsewhere.figures(
        "gap", DREAM, "--agent", "run/agent", "--episodes", "2", "--horizons", "1,5", "--samples", "2",
        "--workers", "0", "--html", "gap.html", "--out", "gap",
    )  # fmt: skip
    assert [row["horizon"] for row in found["open_loop"]] == [1, 5]
    assert all(row["latent_mse"] > 0 for row in found["open_loop"])
    assert "<svg" in (elsewhere.folder / "gap.html").read_text(encoding="utf-8")


def test_an_agent_learns_by_gradients_through_it(elsewhere: Elsewhere) -> None:
    found = elsewhere.figures("train-agent", DREAM, "--steps", "2", "--horizon", "3", "--out", "actor")
    assert Path(elsewhere.folder / found["agent"]).exists()


def test_it_is_drawn_and_filmed(elsewhere: Elsewhere) -> None:
    elsewhere.dreamenv(
        "plot", "run", DREAM, "--agent", "run/agent", "--horizons", "1,5", "--samples", "2", "--out", "p"
    )
    drawn = {file.stem for file in (elsewhere.folder / "p").glob("*.png")}
    assert any("open_loop" in name for name in drawn), drawn
    assert any("training" in name for name in drawn), drawn
    elsewhere.dreamenv(
        "video", DREAM, "--agent", "run/agent", "--steps", "4", "--size", "64", "--file", "clip.gif", "--what", "both"
    )
    assert (elsewhere.folder / "clip.gif").stat().st_size > 0


def test_it_is_published(elsewhere: Elsewhere) -> None:
    registry = yaml.safe_load((elsewhere.folder / "run" / "registry.yaml").read_text(encoding="utf-8"))
    registry["environments"][DREAM]["checkpoint"] = "published"
    file = elsewhere.folder / "shelf" / "registry.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(registry, sort_keys=False), encoding="utf-8")
    score = elsewhere.figures("eval", DREAM, "--agent", "random", "--episodes", "2", "--workers", "0")
    for name in ("score", "baseline"):  # whose score it is does not matter here
        (elsewhere.folder / f"{name}.json").write_text(json.dumps(score), encoding="utf-8")
    elsewhere.dreamenv(
        "publish", DREAM, "--run", "run", "--score", "score.json", "--baseline", "baseline.json", "--registry", file
    )
    card = (file.parent / "published" / "README.md").read_text(encoding="utf-8")
    assert "foreign_drift" in card
    made = f"gym.make('{DREAM}').reset(seed=0)[0].shape"
    code = f"import dreamenv, gymnasium as gym; dreamenv.register('{file}'); print({made})"
    assert elsewhere.python("-c", code).strip() == "(10,)"


def test_it_is_measured_for_speed(elsewhere: Elsewhere) -> None:
    rows = elsewhere.figures("bench", DREAM, "--seconds", "0.02", "--max-envs", "4", "--no-real", "--training")
    cases = {row["case"] for row in rows}
    assert {"dream gym.make", "dream vector", "evolution"} <= cases
    assert all(row["steps_per_s"] > 0 for row in rows)


@pytest.mark.parametrize("player", [["--agent", "run/agent"], ["--real"]])
def test_it_is_played(elsewhere: Elsewhere, player: list[str]) -> None:
    pytest.importorskip("pygame")
    shown = elsewhere.dreamenv("play", DREAM, "--episodes", "1", "--steps", "3", *player)
    assert re.search(r"episode 1: [123] actions?, return ", shown), shown  # a dream may end by itself


def test_it_is_listed_and_explored_with(elsewhere: Elsewhere) -> None:
    rows = elsewhere.figures("list")
    assert next(row for row in rows if row["id"] == DREAM)["bundle_present"]
    elsewhere.dreamenv(
        "collect", "--real", "Pendulum-v1", "--agent", "run/agent", "--model", DREAM, "--episodes", "1",
        "--workers", "0", "--out", "explored",
    )  # fmt: skip
    assert len(list((elsewhere.folder / "explored" / "episodes").glob("*.h5"))) == 1


def test_the_loop_fits_it_again_and_again(elsewhere: Elsewhere) -> None:
    section = {
        "latent_id": "LatentForeign-v0",
        "checkpoint": "loop/bundle",
        "real": {"id": "Pendulum-v1"},
        "dream": {"max_episode_steps": 50},
        "train": {"frames": 400, "recipe": "foreign_drift", "options": {"steps": 20}, "loop": LOOP},
    }
    file = elsewhere.folder / "own.yaml"
    file.write_text(yaml.safe_dump({"format": 1, "environments": {"DreamForeign-v0": section}}), encoding="utf-8")
    known = os.pathsep.join((str(elsewhere.folder / "run" / "registry.yaml"), str(file)))
    elsewhere.know(Path(known))
    table = elsewhere.figures("loop", "DreamForeign-v0", "--set", "refit_steps=6", "--workers", "0", "--out", "loop")
    assert [row["number"] for row in table] == [0, 1]
    rounds = [json.loads((elsewhere.folder / f"loop/rounds/0{n}/bundle/config.json").read_text()) for n in (0, 1)]
    assert [config["provenance"]["options"]["steps"] for config in rounds] == [20, 6]
    assert all(set(row["held_out"]) == {"loss", "picture", "divergence", "reward"} for row in table)
