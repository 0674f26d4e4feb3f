"""A published figure is made anew by the commands of its entry, and what has ended is not run again."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamenv.errors import ConfigurationError, ReproductionError, UnknownFigureError
from dreamenv.workflows import reproduce as module
from dreamenv.workflows.published import read_figures
from dreamenv.workflows.reproduce import Reproduction, reproduce
from tests.scoring.test_score import pendulum_model

COUNTING = "python -m tests.workflows.counting {out} {seed}"
SCORE = {"mean": 3.0, "std": 2.6, "ci95": [1.0, 6.0], "episodes": 3, "real_frames": 41}


def entry(*commands: str, **others: Any) -> dict[str, Any]:
    return {"what": "a test", "runner": "eval", "commands": list(commands or [COUNTING]), "minutes": 1} | others


@pytest.fixture
def figures(tmp_path: Path) -> Any:
    """Write a list of entries, with what was published of "counting", and read it."""

    def write(**entries: dict[str, Any]) -> Any:
        file = tmp_path / "figures.yaml"
        named = {name.replace("_", "-"): content for name, content in entries.items()}
        file.write_text(yaml.safe_dump({"format": 1, "figures": named}), encoding="utf-8")
        stored = tmp_path / "stored" / "counting"
        stored.mkdir(parents=True, exist_ok=True)
        (stored / "score.json").write_text(json.dumps(SCORE), encoding="utf-8")
        return read_figures(file)

    return write


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Reproduce into a folder of the test; returns what was found and the lines that were reported."""

    def run(name: str, known: Any, **options: Any) -> tuple[Reproduction, list[str]]:
        lines: list[str] = []
        return reproduce(name, out=tmp_path / "out", figures=known, report=lines.append, **options), lines

    return run


def runs_of(folder: Path) -> list[str]:
    return (folder / "runs.txt").read_text(encoding="utf-8").split()


def test_the_figure_next_to_the_published_one(figures: Any, run: Any, tmp_path: Path) -> None:
    found, lines = run("counting", figures(counting=entry(action_repeat=4)))
    assert found.to_json() == {
        "name": "counting",
        "seed": 0,
        "real_steps": 11,  # 41 frames of 4 a step; the last one was cut short
        "real_frames": 41,
        "mean": 3.0,
        "std": 2.6458,
        "ci95": [1.0, 6.0],
        "episodes": 3,
        "published": 3.0,
        "seconds": pytest.approx(found.seconds),
    }
    assert 0 < found.seconds < 60
    assert found.folder == tmp_path / "out" / "counting" / "seed_0"
    assert lines[0] == f"[1/1] python -m tests.workflows.counting {found.folder} 0"
    assert lines[1] == "seed 0: 1,000 steps"


def test_another_seed_has_a_folder_of_its_own(figures: Any, run: Any) -> None:
    known = figures(counting=entry())
    first, second = run("counting", known)[0], run("counting", known, seed=5)[0]
    assert (second.seed, second.figure.mean, second.published[""].mean) == (5, 8.0, 3.0)
    assert runs_of(first.folder) == ["0"]
    assert runs_of(second.folder) == ["5"]


def test_what_has_ended_is_not_run_again(figures: Any, run: Any) -> None:
    known = figures(counting=entry())
    first, _ = run("counting", known)
    again, lines = run("counting", known)
    assert again == first
    assert lines == []
    assert runs_of(first.folder) == ["0"]


def test_an_interrupted_command_is_given_again(figures: Any, run: Any) -> None:
    known = figures(counting=entry(f"{COUNTING} --stops 130"))
    with pytest.raises(KeyboardInterrupt):
        run("counting", known)
    found, lines = run("counting", known)
    assert runs_of(found.folder) == ["0", "0"]
    assert lines[0].startswith("[1/1]")


def test_a_folder_of_other_commands_is_left_alone(figures: Any, run: Any) -> None:
    run("counting", figures(counting=entry()))
    with pytest.raises(ConfigurationError, match="holds a run of other commands, models or versions"):
        run("counting", figures(counting=entry(f"{COUNTING} again")))


def test_a_failure_is_named_and_what_came_before_is_kept(figures: Any, run: Any, tmp_path: Path) -> None:
    first = COUNTING.replace("{out}", "{out}/..").replace("{seed}", "7")
    known = figures(counting=entry(first, f"{COUNTING} --stops 3"))
    with pytest.raises(ReproductionError, match=r"counting .* 0 --stops 3 failed with status 3"):
        run("counting", known)
    found, lines = run("counting", known)
    assert [line.partition("]")[0] for line in lines if line.startswith("[")] == ["[2/2"]
    assert runs_of(tmp_path / "out" / "counting") == ["7"]
    assert runs_of(found.folder) == ["0", "0"]


def test_what_an_entry_needs_is_made_first_and_with_its_own_seed(figures: Any, run: Any, tmp_path: Path) -> None:
    model = entry(seed=3)
    known = figures(model=model, counting=entry(f"{COUNTING} {{model}}/score.json", needs=["model"]))
    found, lines = run("counting", known, seed=1)
    needed = tmp_path / "out" / "model" / "seed_3"
    assert runs_of(needed) == ["3"]
    assert [line for line in lines if line.startswith("[")] == [
        f"[1/1] python -m tests.workflows.counting {needed} 3",
        f"[1/1] python -m tests.workflows.counting {found.folder} 1 {needed}/score.json",
    ]


def test_what_is_printed_is_read(figures: Any, run: Any) -> None:
    read = {"parts": {"steps": [r"^seed (?P<seed>\d+): (?P<mean>[\d,]+) steps"]}}
    known = figures(counting=entry(), printing=entry(runner="printed", read=read, main="steps"))
    found, _ = run("printing", known, seed=2)
    assert (found.part, found.figure.numbers()) == ("steps", {"mean": 1002.0, "seed": 2.0})
    assert found.to_json()["published"] is None
    assert run("printing.steps", known, seed=2)[0].figure == found.figure


def test_an_unknown_name_gets_the_nearest(figures: Any, run: Any) -> None:
    known = figures(counting=entry(), bench=entry(runner="bench"))
    with pytest.raises(UnknownFigureError, match=r"no figure is called 'countin'\. Did you mean counting\?"):
        run("countin", known)
    with pytest.raises(UnknownFigureError, match="counting has no figure 'best'"):
        run("counting.best", known)


def test_the_shipped_list_is_the_one_that_is_searched() -> None:
    with pytest.raises(UnknownFigureError, match="Did you mean doom-score"):
        reproduce("doom-scores")


def test_what_cannot_be_made_again_says_why(figures: Any, run: Any) -> None:
    known = figures(counting={"what": "history", "rerun": False, "reason": "its model is not shipped any more"})
    with pytest.raises(ReproductionError, match=r"counting cannot be made again: its model is not shipped any more"):
        run("counting", known)


def test_an_entry_with_its_own_seeds_takes_no_other(figures: Any, run: Any) -> None:
    known = figures(counting=entry(COUNTING.replace("{seed}", "0 1 2")))
    with pytest.raises(ConfigurationError, match="counting runs with seeds of its own; leave out seed=4"):
        run("counting", known, seed=4)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("rm -r {out}", "begins with none of dreamenv, python, make"),
        ("python -m tests.workflows.counting {folder}", "'folder'; placeholders: out, seed"),
        ("dreamenv eval 'DreamDoom-v0", "No closing quotation"),
    ],
)
def test_commands_that_cannot_be_run(figures: Any, run: Any, command: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run("counting", figures(counting=entry(command)))


def test_scripts_need_a_checkout(
    figures: Any, run: Any, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHECKOUT", tmp_path)
    monkeypatch.chdir(tmp_path)
    known = figures(counting=entry())
    with pytest.raises(ReproductionError, match=r"needs tests/workflows/counting\.py; run it in a checkout"):
        run("counting", known)
    monkeypatch.chdir(root)
    assert run("counting", known)[0].figure.mean == 3.0


def test_a_model_that_has_changed_is_not_mixed_with_the_old(
    figures: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = figures(counting=entry(f"{COUNTING} DreamDoom-v0"))
    found, _ = run("counting", known)
    hashes = json.loads((found.folder / module.RECORD).read_text())["sha256"]["DreamDoom-v0"]
    assert hashes.keys() >= {"model.safetensors", "agent.safetensors"}
    monkeypatch.setattr(module, "sha256_of", lambda file: "0" * 64)
    with pytest.raises(ConfigurationError, match="other commands, models or versions"):
        run("counting", known)


def test_a_run_without_the_wanted_part(figures: Any, run: Any) -> None:
    known = figures(counting=entry(), other=entry(main="laps"))
    with pytest.raises(ReproductionError, match="other: this run has no figure 'laps'"):
        run("other", known)


@pytest.mark.integration
def test_real_verbs_make_a_figure(figures: Any, run: Any, tmp_path: Path) -> None:
    world = pendulum_model()
    world.provenance["real_frames"] = 1000
    world.save(tmp_path / "bundle")
    scoring = f"dreamenv eval {tmp_path / 'bundle'} --agent random --episodes 2 --seed {{seed}} --workers 1"
    found, lines = run("pendulum", figures(pendulum=entry(f"{scoring} --json {{out}}/score.json")), seed=3)
    score = json.loads((found.folder / "score.json").read_text())
    assert found.to_json() | {"seconds": 0} == {
        "name": "pendulum",
        "seed": 3,
        "real_steps": 0,
        "real_frames": 0,
        "mean": score["mean"],
        "std": score["std"],
        "ci95": score["ci95"],
        "episodes": 2,
        "published": None,
        "seconds": 0,
    }
    assert any(line.startswith("Pendulum-v1, agent random: ") for line in lines)
    from dreamenv.scoring.score import evaluate

    assert score["returns"] == list(evaluate(world, "random", episodes=2, seed=3, workers=1).returns)


def test_nothing_runs_on_when_nobody_listens(figures: Any, tmp_path: Path) -> None:
    known = figures(counting=entry(f"{COUNTING} --waits"))
    begin = time.monotonic()

    def report(line: str) -> None:
        if not line.startswith("["):
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        reproduce("counting", out=tmp_path, figures=known, report=report)
    assert time.monotonic() - begin < 30, "the command was waited for"
