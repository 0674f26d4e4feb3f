"""Runners read the figures of what commands write, and a foreign package adds its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.workflows.published import Figure, Options, Runner, read_figures, register_runner
from dreamenv.workflows.published.runners import RUNNERS


def read(runner: str, outputs: dict[str, Any], **options: Any) -> dict[str, Figure]:
    chosen = RUNNERS[runner]
    validated = chosen.options.model_validate(options)
    assert set(chosen.files(validated)) == outputs.keys()
    return chosen.read(outputs, validated)


SCORE = {"mean": 2.0, "std": 1.0, "ci95": [1, 3], "episodes": 3, "real_frames": 5, "ms_per_decision": 0.5}
EPISODES = {"returns": [-1.0, 2.0, 5.0], "lengths": [10, 10, 20]}


def test_scores_are_read_and_episodes_counted() -> None:
    counts = {
        "short": {"shorter_than": 20},
        "good": {"return_above": 2},
        "bad": {"return_below": 2, "shorter_than": 99},
    }
    found = read("eval", {"score.json": SCORE | EPISODES}, counts=counts)[""]
    assert found.numbers() == {
        "mean": 2.0,
        "std": 1.0,
        "low": 1.0,
        "high": 3.0,
        "episodes": 3,
        "real_frames": 5,
        "ms_per_decision": 0.5,
        "short": 2,
        "good": 1,
        "bad": 1,
    }
    assert "short" not in read("eval", {"score.json": SCORE}, counts=counts)[""].numbers()
    reached = read("eval", {"score.json": SCORE | EPISODES}, share={"return_above": 0})[""]
    assert (reached.mean, reached.std, reached.number("mean_return")) == (pytest.approx(2 / 3), None, 2.0)
    assert reached.ci95 is not None
    assert 0 <= reached.ci95[0] < reached.mean < reached.ci95[1] <= 1


def test_points_are_parts_of_a_curve() -> None:
    points = [{"real_steps": 10, "mean": 1.0, "std": 0.5, "critic": 3}, {"real_steps": 20, "mean": 2.0, "std": 0.1}]
    found = read("curve", {"mbpo.json": {"epochs": points}}, file="mbpo.json", points="epochs")
    assert list(found) == ["", "point-0", "point-1"]
    assert found[""].numbers() == {"mean": 2.0, "std": 0.1, "real_frames": 20}
    scored = {"epochs": points} | {key: SCORE[key] for key in ("mean", "std", "ci95", "episodes")}
    found = read("curve", {"a.json": scored}, file="a.json", points="epochs")
    assert found[""].numbers() == {"mean": 2.0, "std": 1.0, "low": 1, "high": 3, "episodes": 3, "real_frames": 20}
    assert found["point-0"].mean == 1.0
    outputs = {"mbpo.json": {"epochs": points}, "score.json": SCORE}
    found = read("curve", outputs, file="mbpo.json", points="epochs", score="score.json")
    assert found[""].numbers() == {"mean": 2.0, "std": 1.0, "low": 1, "high": 3, "episodes": 3, "real_frames": 20}


def test_rounds_are_parts_of_a_loop() -> None:
    row = {"number": 3, "real_mean": 7.0, "real_std": 1.5, "dream_mean": 9.0, "real_frames": 40}
    found = read("loop", {"rounds.json": [row], "score.json": SCORE})
    assert found[""].mean == 2.0
    assert found["round-3"].numbers() == {"mean": 7.0, "std": 1.5, "real_frames": 40, "dream_mean": 9.0}


def test_cases_are_parts_of_a_benchmark() -> None:
    row = {"case": "dream gym.make", "num_envs": 1, "steps_per_s": 90.0, "bound_steps_per_s": 180.0, "fraction": 0.5}
    found = read("bench", {"bench.json": [row, row | {"case": "real", "bound_steps_per_s": None, "fraction": None}]})
    assert found["dream-gym-make-1"].numbers() == {
        "mean": 90.0,
        "num_envs": 1,
        "bound_steps_per_s": 180.0,
        "fraction": 0.5,
    }
    assert found["real-1"].numbers() == {"mean": 90.0, "num_envs": 1}


def test_json_is_read_by_paths() -> None:
    content = {"rows": [{"x": 1}, {"x": 2}], "only, one": {"y": [3, 4]}}
    paths = {"": {"mean": "rows.1.x"}, "b": {"mean": "rows.0.x", "episodes": "rows.1.x"}}
    found = read("json", {"f.json": content}, file="f.json", parts=paths)
    assert (found[""], found["b"]) == (Figure(2.0), Figure(1.0, episodes=2))
    single = read("json", {"f.json": {"only, one": {"y": [3, 4]}}}, file="f.json", parts={"": {"ci95": "*.y"}})
    assert single[""].ci95 == (3.0, 4.0)
    with pytest.raises(ValueError, match="too many values"):
        read("json", {"f.json": content}, file="f.json", parts={"": {"mean": "*.y"}})


def test_a_pattern_that_fits_nothing_is_named() -> None:
    with pytest.raises(ValueError, match="nothing that was printed fits 'b=.*'"):
        read("printed", {"printed.txt": "a=1\n"}, parts={"": [r"b=(?P<mean>\d)"]})


def test_a_runner_of_a_foreign_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RUNNERS, "_added", {})

    class Factor(Options):
        factor: float = 1.0

    foreign = Runner(
        lambda outputs, options: {"": Figure(options.factor * float(outputs["number.txt"]))},
        lambda options: ("number.txt",),
        Factor,
    )
    register_runner("number", foreign)
    text = "{what: a, runner: number, commands: [dreamenv list], minutes: 1, read: {factor: 2}}"
    (tmp_path / "figures.yaml").write_text(f"format: 1\nfigures:\n  a: {text}\n", encoding="utf-8")
    (entry,) = read_figures(tmp_path / "figures.yaml").values()
    entry.folder.mkdir(parents=True)
    (entry.folder / "number.txt").write_text("21\n", encoding="utf-8")
    assert entry.published() == {"": Figure(42.0)}
    with pytest.raises(ConfigurationError, match="'number' is .* already"):
        register_runner("number", Runner(foreign.read, foreign.files))


def test_scores_of_one_run_after_fewer_and_more_frames() -> None:
    def score(mean: float) -> dict[str, Any]:
        return {"mean": mean, "std": 1.0, "ci95": [mean - 1, mean + 1], "episodes": 3, "real_frames": 10}

    parts = {"": "late.json", "early": "early.json"}
    found = read("scores", {"late.json": score(9.0), "early.json": score(4.0)}, parts=parts)
    assert {part: figure.mean for part, figure in found.items()} == {"": 9.0, "early": 4.0}
