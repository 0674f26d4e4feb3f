"""The demonstration: all of its stages, its report, and that it goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium import spaces

from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.types import RealEnvSpec
from dreamenv.workflows.demo import DemoOptions, run_demo
from tests.colour_env import ColourEnv
from tests.fakes import trained_like_world_model

TINY = DemoOptions(minutes=0.003, episodes=2, population=4, rollouts=1, horizon=4, video_steps=4)


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    gym.register("Colour-v0", entry_point=ColourEnv)
    model = trained_like_world_model(action_space=spaces.Discrete(3), real=RealEnvSpec("Colour-v0"))
    model.provenance = {"real_frames": 4321}
    model.save(tmp_path / "bundle")
    yield tmp_path / "bundle"
    del gym.registry["Colour-v0"]


def test_demo_writes_scores_report_and_video(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    stages: list[str] = []
    result = run_demo(bundle, out, TINY, workers=0, progress=lambda stage, *_: stages.append(stage))
    assert set(stages) == {"evolve", "score agent", "score random", "video"}
    assert result["scores"]["agent"]["returns"] == [12.0, 12.0]
    assert result["scores"]["agent"]["real_frames"] == 4321
    assert result["scores"]["random"]["agent"] == "random"
    assert set(result["seconds"]) == set(stages)
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(result))
    page = (out / "report.html").read_text()
    for wanted in ("data:video/mp4;base64,", "<svg", "4,321", "random policy", "demo.mp4"):
        assert wanted in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )
    assert (out / "demo.mp4").stat().st_size > 0

    # the same call repeats nothing
    stages.clear()
    again = run_demo(bundle, out, TINY, workers=0, progress=lambda stage, *_: stages.append(stage))
    assert again == result
    assert stages == ["video"]

    # one that was cut off repeats what is missing
    content = json.loads((out / "stages.json").read_text())
    del content["stages"]["score random"]
    (out / "stages.json").write_text(json.dumps(content))
    stages.clear()
    again = run_demo(bundle, out, TINY, workers=0, progress=lambda stage, *_: stages.append(stage))
    for name, score in result["scores"].items():  # all but how long it took is the same
        assert again["scores"][name] | {"ms_per_decision": 0} == score | {"ms_per_decision": 0}
    assert set(stages) == {"score random", "video"}

    with pytest.raises(ConfigurationError, match="other settings"):
        run_demo(bundle, out, replace(TINY, episodes=3), workers=0)
    (out / "stages.json").write_text("{")
    with pytest.raises(BundleError, match="delete it"):
        run_demo(bundle, out, TINY, workers=0)


def test_a_missing_model_is_said_first(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="no world model.*dreamenv train"):
        run_demo(tmp_path / "empty", tmp_path / "demo", TINY)
    assert not (tmp_path / "demo").exists()


def test_options_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        run_demo(tmp_path, tmp_path / "demo", replace(TINY, minutes=0.0))
