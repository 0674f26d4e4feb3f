"""docs/baselines.py: points and scores are of real episodes, and every pair of settings makes its algorithm."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import gymnasium as gym
import pytest

from dreamenv.types import episode_seeds
from tests.docs.site import docs_script

pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("baselines")


def test_a_curve_and_its_score(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["CartPole-v1", "ppo", "--steps", "1024", "--points", "2", "--episodes", "3", "--seed", "4"]
    monkeypatch.setattr(
        sys, "argv", ["baselines.py", *words, "--out", str(tmp_path), "--json", str(tmp_path / "a.json")]
    )
    script.main()
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [point["real_steps"] for point in found["points"]] == [512, 1024]
    assert all(point["episodes"] == 20 for point in found["points"])
    assert found["episodes"] == 3
    # CartPole pays 1 a step, and an untrained policy keeps the pole up for ten to twenty
    assert 8 <= found["points"][0]["mean"] <= 500
    agent = script.algorithm("ppo", gym.make("CartPole-v1").action_space).load(
        tmp_path / "agent", custom_objects={"lr_schedule": None, "clip_range": 0.1, "learning_rate": 0.001}
    )
    seeds = episode_seeds("evaluation", 4, 3)
    assert found["mean"] == pytest.approx(sum(script.played(agent, "CartPole-v1", None, seed) for seed in seeds) / 3)


def test_normalised_observations_are_what_the_policy_is_scored_on(script: ModuleType) -> None:
    settings = script.Settings({"n_steps": 16, "batch_size": 16, "n_epochs": 1}, envs=2, normalised=True)
    model, points, score = script.learn("CartPole-v1", "ppo", settings, steps=64, points=1, seed=0)
    assert [point["real_steps"] for point in points] == [64]
    spread = model.get_vec_normalize_env()
    assert score([7]) == [script.played(model, "CartPole-v1", spread, 7)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Reacher-v5", "ppo", "--steps", "10"], "no settings of ppo for Reacher-v5"),
        (["CartPole-v1", "ppo", "--steps", "0"], "must be at least 1"),
    ],
)
def test_what_there_is_not_is_refused(
    script: ModuleType,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["baselines.py", *words])
    with pytest.raises(SystemExit):
        script.main()
    assert message in capsys.readouterr().err
