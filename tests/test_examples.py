"""The examples run in their order, each on what the one before has left; small, to be quick."""

from __future__ import annotations

import json
import runpy
import statistics
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.types import RealEnvSpec
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
        "06_plan_in_the_dream.py",
        "07_any_sb3_algorithm.py",
        "08_mbpo.py",
        "09_dyna_q.py",
        "10_cleanrl_style_ppo.py",
        "11_compare_planners.py",
        "12_alphazero_tictactoe.py",
        "13_i2a_sokoban.py",
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
        ("06_plan_in_the_dream.py", ["--planner", "planner:shooting,horizon=3,candidates=4", "--episodes", "2"]),
    ):
        shown.append(run_python(examples / name, "--out", tmp_path, *options).stdout)
    collected, evolved, scored, ppo, planned = shown
    assert "latent loss on held-out episodes" in collected
    assert evolved.count("generation ") == 2
    assert "in reality, the agent:" in scored
    assert "in reality, a random policy:" in scored
    assert "PPO, trained on 2048 dreamed actions" in ppo
    assert "planner:shooting,horizon=3,candidates=4, in the dream: " in planned
    assert " ms per decision" in planned


@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "LatentOwn-v0"])
def test_mixing(run_python: RunPython, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("mujoco" if task.startswith("Inverted") else "Box2D")
    example = root / "examples" / "08_mbpo.py"
    real = RealEnvSpec("CarRacing-v3", crop=(0, 84, 0, 96), action_repeat=4, max_episode_steps=60)
    model = trained_like_world_model(real=real, action_space=spaces.Box(np.array([-1, 0, 0]), 1, dtype=np.float32))
    registry = write_registry(tmp_path, "DreamOwn-v0", model)
    start = (
        "import os, runpy, sys; os.environ['DREAMENV_REGISTRY'] = sys.argv[1]; sys.argv = sys.argv[2:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    numbers = {
        "steps": 30,
        "mixed-steps": 30,
        "updates": 1,
        "learning-starts": 10,
        "refit-every": 10,
        "rollout-every": 5,
        "rollout-batch": 20,
        "fit-steps": 2,
        "model-width": 8,
        "width": 8,
        "score-every": 10,
        "mixed-score-every": 10,
        "score-episodes": 1,
    }
    options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    options += ["--seeds", "0", "--branches", "1", "2", "10", "30", "--methods", "sac", "mixed", "sac_utd"]
    command = ("-c", start, registry, example, "--id", task, "--out", tmp_path, *options)
    first = run_python(*command)
    folder = tmp_path / task
    for method in ("sac", "mixed", "sac_utd"):
        run = json.loads((folder / f"{method}_0.json").read_text(encoding="utf-8"))
        assert [point["real_steps"] for point in run["curve"]] == [10, 20, 30]
    rows = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
    assert {row["method"] for row in rows} == {"sac", "mixed", "sac_utd"}
    assert (folder / "curves.png").stat().st_size > 1000
    assert "mixed, seed 0" in first.stdout
    again = run_python(*command).stdout
    assert "mixed, seed 0" not in again, "what is there is not run again"
    assert again.count("real steps; ") == 3


def test_planners_are_compared(run_python: RunPython, root: Path, tmp_path: Path) -> None:
    options = ["--steps", "60", "--episodes", "1", "--workers", "0", "--out", str(tmp_path)]
    planners = ["random", "planner:shooting,candidates=2,horizon=2"]
    command = (root / "examples" / "11_compare_planners.py", "--id", "Pendulum-v1", *options, "--planners", *planners)
    lines = run_python(*command).stdout.splitlines()
    assert "ensemble fitted to 60 random steps" in lines[0]
    assert [line.partition(": ")[0] for line in lines[1:]] == planners
    rows = json.loads((tmp_path / "Pendulum-v1.json").read_text(encoding="utf-8"))
    assert [len(row["returns"]) for row in rows.values()] == [1, 1]
    assert run_python(*command).stdout.splitlines()[1:] == lines[1:], "what is there is not measured again"


def test_the_ratio_of_real_steps(root: Path) -> None:
    pytest.importorskip("stable_baselines3")
    summarise = runpy.run_path(str(root / "examples" / "08_mbpo.py"))["summarise"]

    def run(method: str, seed: int, *means: float) -> dict[str, object]:
        curve = [{"real_steps": 100 * i, "mean": mean} for i, mean in enumerate(means, 1)]
        return {"id": "x", "method": method, "seed": seed, "real_steps": 100 * len(means), "curve": curve}

    runs = [run("sac", 0, 0, 1, 20, 2, 3, 4), run("mixed", 0, 1, 3), run("mixed", 1, 9), run("sac_utd", 0, 1, 2)]
    rows = {(row["method"], row["seed"]): row for row in summarise(runs)["rows"]}
    assert rows["mixed", 0]["target"] == rows["sac", 0]["final_return"] == 3, "the mean of the last three scores"
    assert (rows["mixed", 0]["reached_at"], rows["mixed", 0]["ratio"]) == (200, 3)
    assert rows["sac_utd", 0]["ratio"] is None
    assert ("mixed", 1) not in rows, "there is nothing to compare it with"


def test_dyna_q(run_python: RunPython, root: Path) -> None:
    example = root / "examples" / "09_dyna_q.py"
    dyna_q = runpy.run_path(str(example))["dyna_q"]
    median = {}
    for planning in (0, 5, 20):
        found = [dyna_q("CliffWalking-v1", planning, seed, max_steps=6000) for seed in range(3)]
        assert all(found), "the greedy policy became the best one"
        median[planning] = statistics.median(run.real_steps for run in found)
        assert [run.dreamed_steps for run in found] == [planning * run.real_steps for run in found]
    assert median[20] < median[5] < 0.5 * median[0]
    assert dyna_q("FrozenLake-v1", 0, 0, max_steps=20) is None
    shown = run_python(example, "--ids", "FrozenLake-v1", "--planning", "0", "5", "--seeds", "2").stdout
    assert shown.count("best policy in 2 of 2 seeds") == 2


@pytest.mark.parametrize(
    ("algo", "where", "steps", "played"),
    [("ppo", "dream", 100, "128"), ("sac", "dream", 50, "50"), ("recurrent_ppo", "reality", 100, "128")],
)
def test_any_sb3_algorithm(
    run_python: RunPython, root: Path, tmp_path: Path, algo: str, where: str, steps: int, played: str
) -> None:
    pytest.importorskip("sb3_contrib")
    pendulum = spaces.Box(-2, 2, (1,), np.float32)
    spec = RealEnvSpec("Pendulum-v1", action_repeat=2)
    world = trained_like_world_model(action_space=pendulum, image=False, real=spec, latent_size=3)
    registry = write_registry(tmp_path, "DreamOwn-v0", world)
    start = (
        "import os, runpy, sys; os.environ['DREAMENV_REGISTRY'] = sys.argv[1]; sys.argv = sys.argv[2:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    options = ["--algo", algo, "--in", where, "--steps", str(steps), "--envs", "2", "--episodes", "2", "--workers", "0"]
    example = root / "examples" / "07_any_sb3_algorithm.py"
    options += ["--out", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    dream = str(tmp_path / "bundle") if algo == "sac" else "DreamOwn-v0"
    output = run_python("-c", start, registry, example, "--id", dream, *options).stdout
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["actions"] == int(played)
    assert f"real:  {figures['real']['mean']:.1f} ± {figures['real']['std']:.1f}" in output
    assert f"dream: {figures['dream']['mean']:.1f} ± {figures['dream']['std']:.1f}" in output
    assert figures["dream"]["episodes"] == 2
    file = tmp_path / f"{algo}-{Path(dream).name}.zip"
    assert file.is_file()
    assert f"{file}: {played} actions in {where}" in output
    assert "dream: " in output
    assert "real:  " in output
    frames = 0 if where == "dream" else int(played) * 2
    assert f"real frames of model and agent: {frames}" in output


def test_ppo_in_one_file(run_python: RunPython, root: Path) -> None:
    """That it learns is shown in tests/integrations/test_libraries.py."""
    example = root / "examples" / "10_cleanrl_style_ppo.py"
    output = run_python(example, "DreamDoom-v0", "--steps", "1600", "--envs", "8", "--length", "100").stdout
    assert "update 2, 1600 dreamed actions: mean return " in output


def test_alphazero_plays_tictactoe(run_python: RunPython, root: Path, tmp_path: Path) -> None:
    """The game itself is tested in tests/agents/test_tictactoe.py."""
    example = root / "examples" / "12_alphazero_tictactoe.py"
    options = {"rounds": 2, "decisions": 20, "steps": 5, "simulations": 4, "games": 2}
    numbers = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = (example, "--out", tmp_path, "--json", tmp_path / "table.json", *numbers)
    output = run_python(*command).stdout
    assert output.count("round ") == 2
    table = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    for player in ("network", "search"):
        sides = table[player]["sides"]
        assert all(sum(side.values()) == 2 for side in sides.values())
        assert all(side["wins"] == 0 for side in sides.values()), "nobody wins against the perfect player"
        assert table[player]["mean"] == 1 - table[player]["losses"] / 4


def test_imagination_in_sokoban(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The game itself is tested in tests/sb3/test_sokoban.py."""
    pytest.importorskip("stable_baselines3")
    numbers = {"frames": 160, "bad-episodes": 1, "epochs": 1, "steps": 1, "envs": 1, "rooms": 2}
    options = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
    options += ["--model-width", "8", "--parts", "2", "--seed", "1", "--json", str(tmp_path / "table.json")]
    example = str(root / "examples" / "13_i2a_sokoban.py")
    monkeypatch.setattr("sys.argv", [example, *options])
    runpy.run_path(example, run_name="__main__")
    table = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert table.pop("settings")["frames"] == 160
    assert list(table) == ["i2a", "without", "bad_model"]
    for row in table.values():
        assert row["rooms"] == 2
        assert row["mean"] in (0, 50, 100)
        assert [point["real_frames"] for point in row["curve"]] == [96, 192], "whole rollouts of 32 steps"
        assert row["curve"][0] == table["without"]["curve"][0], "all begin without imagination"
    before = (tmp_path / "table.json").stat().st_mtime_ns
    runpy.run_path(example, run_name="__main__")
    assert (tmp_path / "table.json").stat().st_mtime_ns == before, "all rows are there"
    monkeypatch.setattr("sys.argv", [example, *options, "--steps", "2"])
    with pytest.raises(SystemExit):
        runpy.run_path(example, run_name="__main__")
