"""docs/model_free.py: frames and scores are real ones, and a stopped run goes on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest

from dreamenv.data.preprocess import make_raw_env
from dreamenv.files import write_json
from dreamenv.registry import find
from tests.colour_env import ColourEnv
from tests.docs.site import docs_script

pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("model_free")


def small(script: ModuleType, **changes: Any) -> Any:
    algorithm = {"n_steps": 4, "batch_size": 8, "n_epochs": 1}
    given = {"learning_rate": 1e-3, "clip_range": 0.2, "repeat": 2, "stack": 2, "size": 36, "envs": 2} | changes
    return script.Settings(given.pop("policy", "CnnPolicy"), algorithm, **given)


def test_a_stopped_run_goes_on_to_the_end_of_its_budget(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = script.Run.save, []

    def stopping(run: Any) -> None:
        save(run)
        saved.append(run.budget.used_frames)
        if len(saved) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(script.Run, "save", stopping)
    settings = small(script)
    with pytest.raises(KeyboardInterrupt):
        script.learn(ColourEnv, "ppo", settings, script.Budget(frames=64), tmp_path, every_s=0.0)
    # A rollout of 4 steps of 2 environments is 16 frames; episodes of 6 frames end after their third step
    assert saved == [0, 16, 32]
    budget = script.Budget(frames=64)
    model = script.learn(ColourEnv, "ppo", settings, budget, tmp_path, every_s=0.0)
    assert (budget.used_frames, model.num_timesteps) == (64, 32)
    assert model.lr_schedule(1.0) == 0.0
    assert model.clip_range(1.0) == 0.2
    assert budget.curve[-1]["recent_return"] == 12
    assert [point["frames"] for point in budget.curve] == sorted(point["frames"] for point in budget.curve)
    assert model.provenance["returns"][2] > 32  # the running spread has seen both calls
    # Nothing is left to learn
    again = script.Budget(frames=64)
    assert script.learn(ColourEnv, "ppo", settings, again, tmp_path).num_timesteps == 32
    assert again.curve == budget.curve


def test_a_score_is_of_real_rewards_and_keeps_what_was_played(script: ModuleType, tmp_path: Path) -> None:
    settings = small(script, rewards="signs", repeat=4, policy="CnnLstmPolicy", deterministic=False)
    model = script.learn(ColourEnv, "recurrent_ppo", settings, script.Budget(hours=1e-9), tmp_path)
    file = tmp_path / "returns.json"
    write_json(file, [99.0])
    assert script.score(model, ColourEnv, settings, [1, 2, 3], file) == [99.0, 12.0, 12.0]
    assert script.score(model, ColourEnv, settings, [1, 2], file) == [99.0, 12.0]


@pytest.mark.integration
@pytest.mark.parametrize(("task", "algo", "shape"), [("car", "ppo", (64, 64, 2)), ("doom", "ppo", (84, 84, 4))])
def test_pictures_of_the_real_environments_fit(
    script: ModuleType, task: str, algo: str, shape: tuple[int, ...]
) -> None:
    pytest.importorskip("Box2D" if task == "car" else "vizdoom")
    settings = script.SETTINGS[task, algo]

    def make() -> gym.Env[Any, Any]:
        return make_raw_env(find(script.DREAMS[task]).section.real.spec())

    envs = script.make_envs(make, settings, seed=0, envs=1)
    assert envs.reset().shape == (1, *shape)
    _, _, _, infos = envs.step([envs.action_space.sample()])
    assert infos[0]["real_frames"] == settings.repeat
    envs.close()


def test_a_folder_holds_one_run(script: ModuleType, tmp_path: Path) -> None:
    script.check_same_run(tmp_path / "run.json", {"frames": 10})
    script.check_same_run(tmp_path / "run.json", {"frames": 10})
    with pytest.raises(SystemExit, match="holds another run"):
        script.check_same_run(tmp_path / "run.json", {"frames": 20})


@pytest.mark.parametrize(
    "bad", [["--frames", "0"], ["--hours", "-1"], ["--hours", "inf"], ["--frames", "9", "--episodes", "0"]]
)
def test_a_budget_of_nothing_is_refused(
    bad: list[str],
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["model_free.py", "doom", "ppo", "--out", str(tmp_path / "run"), *bad])
    with pytest.raises(SystemExit):
        script.main()
    assert "need frames or hours above 0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
