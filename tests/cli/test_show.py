"""`dreamenv list`, `video`, `plot`, `demo` and `bench` through the command line's own parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from typer.testing import CliRunner, Result

from dreamenv import registry
from dreamenv.agents import LinearController, initial_weights, save_agent
from dreamenv.cli import app, bench, demo, show  # noqa: F401  (importing registers the verbs)
from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.registry import DreamEntry
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.colour_env import ColourEnv
from tests.fakes import trained_like_world_model


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    gym.register("Colour-v0", entry_point=ColourEnv)
    model = trained_like_world_model(action_space=spaces.Discrete(3), real=RealEnvSpec("Colour-v0"))
    folder = tmp_path / "bundle"
    model.provenance = {"real_frames": 1234, "score": {"mean": 750.4, "std": 12.0, "episodes": 100}}
    model.save(folder)
    weights = np.zeros(initial_weights(model).shape)
    agent = LinearController(weights, model.observation_space(), model.action_space, provenance={"real_frames": 66})
    save_agent(agent, folder)
    yield folder
    del gym.registry["Colour-v0"]


def test_list_tells_what_the_bundles_hold(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = next(iter(registry.entries().values()))
    here = DreamEntry("DreamHere-v0", known.section, bundle)
    away = DreamEntry("DreamAway-v0", known.section, bundle / "nowhere")
    monkeypatch.setattr(registry, "_entries", {entry.id: entry for entry in (here, away)})
    first, second = json.loads(call("list", "--json").stdout)
    assert (first["id"], first["bundle_present"], first["real_frames"]) == ("DreamHere-v0", True, 1300)
    assert first["bundle_bytes"] == sum(file.stat().st_size for file in bundle.iterdir())
    assert first["score"] == {"mean": 750.4, "std": 12.0, "episodes": 100, "of": "evaluation"}
    assert (second["bundle_present"], second["score"], second["real_frames"]) == (False, None, None)
    table = call("list").stdout.splitlines()
    assert "750 ± 12 (evaluation, 100 episodes)" in table[1]
    assert "not there" in table[2]


def test_list_names_a_broken_agent(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = next(iter(registry.entries().values()))
    monkeypatch.setattr(registry, "_entries", {"DreamHere-v0": DreamEntry("DreamHere-v0", known.section, bundle)})
    (bundle / "agent.safetensors").write_bytes(b"cut")
    with pytest.raises(BundleError, match=r"agent\.safetensors"):
        call("list")


def test_video_of_both(bundle: Path, tmp_path: Path) -> None:
    result = call("video", str(bundle), "--out", str(tmp_path / "both.gif"), "--steps", "4", "--size", "64")
    assert result.exit_code == 0
    assert "reality: 4 actions, return 8.0" in result.stdout
    assert result.stdout.startswith("dream: ")
    assert (tmp_path / "both.gif").stat().st_size > 0


def test_video_of_a_dream_alone_by_random(bundle: Path, tmp_path: Path) -> None:
    result = call("video", str(bundle), "--out", str(tmp_path / "d.mp4"), "--what", "dream", "--agent", "random")
    assert "reality" not in result.stdout
    assert (tmp_path / "d.mp4").exists()
    with pytest.raises(ConfigurationError, match="Did you mean"):
        call("video", str(bundle), "--out", str(tmp_path / "d.mp4"), "--what", "dreams")


def test_video_of_a_planner(bundle: Path, tmp_path: Path) -> None:
    planner = "planner:shooting,candidates=4,horizon=2"
    out = tmp_path / "planned.gif"
    result = call("video", str(bundle), "--out", str(out), "--agent", planner, "--steps", "2", "--size", "64")
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == ["dream", "reality"]


def test_video_of_many_dreams(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "many.gif"
    result = call("video", str(bundle), "--out", str(out), "--dreams", "3", "--steps", "2", "--size", "64")
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:3]] == ["dream 0", "dream 1", "dream 2"]
    result = call("video", str(bundle), "--out", str(out), "--temperatures", "1,0.1", "--steps", "2", "--size", "64")
    assert [line.split(":")[0] for line in result.stdout.splitlines()[:2]] == ["τ 0.1", "τ 1"]
    with pytest.raises(ConfigurationError, match="numbers with commas"):
        call("video", str(bundle), "--out", str(out), "--temperatures", "warm")


def test_plot_of_a_model(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "plots"
    result = call("plot", str(bundle), "--out", str(out), "--horizons", "3,1", "--context", "1", "--samples", "2")
    assert result.exit_code == 0
    expected = {f"{name}.{suffix}" for name in ("open_loop", "reconstructions") for suffix in ("png", "svg")}
    assert {file.name for file in out.iterdir()} == expected


def test_plot_says_when_no_episode_is_long_enough(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"6 actions, 51 are needed"):
        call("plot", str(bundle), "--out", str(tmp_path), "--context", "1")
    with pytest.raises(ConfigurationError, match="1,5,15,50"):
        call("plot", str(bundle), "--out", str(tmp_path), "--horizons", "one")
    with pytest.raises(ConfigurationError, match="--run"):
        call("plot")


def test_plot_of_an_evolution(tmp_path: Path) -> None:
    (tmp_path / "agent").mkdir()
    score = {"mean": 3.0, "returns": [3.0], "real_frames": 9}
    history = [
        {"index": 1, "dream_mean": 1.0, "dream_best": 2.0, "validation_mean": None, "validation_best": None},
        {"index": 2, "dream_mean": 2.0, "dream_best": 3.0, "validation_mean": score, "validation_best": score},
    ]
    (tmp_path / "agent" / "evolution.json").write_text(json.dumps({"history": history}))
    assert call("plot", "--run", str(tmp_path), "--out", str(tmp_path)).exit_code == 0
    assert (tmp_path / "evolution.png").stat().st_size > 1000
    assert (tmp_path / "evolution.svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
    assert (tmp_path / "dream_against_real.png").exists()  # generation 2 has both scores
    (tmp_path / "agent" / "evolution.json").write_text('{"history": []}')
    with pytest.raises(BundleError, match="not the history"):
        call("plot", "--run", str(tmp_path), "--out", str(tmp_path))


def test_plot_of_loops_compares_them(tmp_path: Path) -> None:
    for name in ("first", "second"):
        row = {"number": 0, "real_frames": 1000, "dream_mean": 5.0, "real_mean": -1.0, "real_std": 2.0}
        (tmp_path / name).mkdir()
        (tmp_path / name / "rounds.json").write_text(json.dumps([row]))
    runs = [argument for name in ("first", "second") for argument in ("--run", str(tmp_path / name))]
    result = call("plot", *runs, "--out", str(tmp_path / "plots"))
    assert "-1.0 ± 2.0" in result.stdout
    drawn = {f"{name}.{suffix}" for name in ("rounds", "dream_against_real") for suffix in ("png", "svg")}
    assert {file.name for file in (tmp_path / "plots").iterdir()} == drawn
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="nothing to draw"):
        call("plot", "--run", str(tmp_path / "empty"), "--out", str(tmp_path))


def test_plot_reads_the_rounds_that_a_bundle_holds(bundle: Path, tmp_path: Path) -> None:
    provenance = WorldModel.load("DreamCarRacing-v0").provenance
    result = call("plot", "--run", "DreamCarRacing-v0", "--out", str(tmp_path))
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("DreamCarRacing-v0")]
    assert [int(row[1]) for row in rows] == list(range(len(provenance["rounds"])))
    assert rows[0][2] == f"{provenance['rounds'][0]['real_frames']:,}"
    with pytest.raises(BundleError, match="not made by `dreamenv loop`"):
        call("plot", "--run", str(bundle), "--out", str(tmp_path))


def test_bench_writes_its_rows(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = call("bench", "--id", str(bundle), "--seconds", "0.02", "--max-envs", "1", "--json", str(file))
    assert "dream vector" in result.stdout
    assert {"case", "num_envs", "steps_per_s", "bound_steps_per_s", "fraction", "device"} <= set(
        json.loads(file.read_text())[0]
    )


@pytest.mark.parametrize("verb", ["list", "video", "plot", "demo", "bench"])
def test_help_shows_an_example(verb: str) -> None:
    assert f"Example: dreamenv {verb}" in call(verb, "--help").stdout
