"""`dreamenv eval` of models of Stable-Baselines3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

pytest.importorskip("stable_baselines3")

from dreamenv.errors import BundleError, ConfigurationError, SpaceMismatchError
from dreamenv.sb3 import DreamVecEnv, algorithm
from dreamenv.scoring import evaluate
from tests.command_line import call
from tests.scoring.test_score import cartpole_model, pendulum_model


def score(*arguments: str) -> Result:
    return call("eval", *arguments, "--episodes", "2", "--workers", "0")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    world = pendulum_model()
    world.provenance["real_frames"] = 1000
    world.save(tmp_path / "bundle")
    model: Any = algorithm("ppo")("MlpPolicy", DreamVecEnv(world, 1), policy_kwargs={"net_arch": [4]}, device="cpu")
    model.provenance = {"real_frames": 5}
    model.save(tmp_path / "ppo")
    return tmp_path / "bundle"


def test_a_model_is_scored_by_its_file(bundle: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "ppo.zip")
    result = score(str(bundle), "--agent", file, "--algo", "ppo", "--json", str(tmp_path / "score.json"))
    assert result.exit_code == 0
    figures = json.loads((tmp_path / "score.json").read_text())
    assert figures["returns"] == list(evaluate(bundle, file, algo="ppo", episodes=2, workers=0).returns)
    assert (figures["agent"], figures["real_frames"]) == (file, 1005)
    assert f"Pendulum-v1, agent {file}: {figures['mean']:.1f} ± {figures['std']:.1f} over 2 episodes" in result.stdout
    assert "real frames consumed by model and agent: 1,005" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--agent", "ppo.zip"], BundleError, "--algo ppo"),
        (["--agent", "ppo.zip", "--algo", "ppoo"], ConfigurationError, "Did you mean ppo"),
        (["--agent", "ppo.zip", "--algo", "sac"], ConfigurationError, "was not saved by sac. Load it as ppo"),
        (["--agent", "ppo.zip", "--algo", "dqn"], ConfigurationError, "Algorithms that take them: a2c, ddpg, ppo"),
        (["--agent", "none.zip", "--algo", "ppo"], BundleError, "cannot be read"),
        (["--algo", "ppo"], ConfigurationError, "--agent FILE.zip --algo ppo"),
        (["--agent", "random", "--algo", "ppo"], ConfigurationError, "--agent FILE.zip --algo ppo"),
    ],
)
def test_bad_input(
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        score(str(bundle), *arguments)


def test_spaces_that_differ_are_shown_side_by_side(bundle: Path, tmp_path: Path) -> None:
    cartpole_model().save(tmp_path / "other")
    with pytest.raises(SpaceMismatchError, match=r"the agent has Box.*shape=\(11,\).*features Box.*shape=\(12,\)"):
        score(str(tmp_path / "other"), "--agent", str(tmp_path / "ppo.zip"), "--algo", "ppo")
