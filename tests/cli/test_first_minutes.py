"""What a new user meets on the command line: the overview, places to write to, errors of the system, the next verb."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import dreamenv
import dreamenv.cli as cli
from dreamenv.cli.overview import GROUPS, START, Verbs
from dreamenv.cli.presets import agent_folder
from dreamenv.cli.problems import one_line
from dreamenv.cli.progress import Countdown, Progress
from dreamenv.errors import BundleError, ConfigurationError, MissingExtraError, did_you_mean
from tests.command_line import call
from tests.damage import edit_config

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> Any:
    """Type `dreamenv ARGUMENTS` in an empty folder; returns exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dreamenv", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            status: Any = 0
        except SystemExit as leave:
            status = leave.code or 0
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_the_overview_has_groups_whole_summaries_and_a_beginning(typed: Any) -> None:
    _, out, _ = typed("-h")
    assert START in out
    assert "..." not in out.replace("[ARGS]...", "")
    places = [out.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    # A verb without a group would be listed under another title
    assert re.findall(r"^(\w+):$", out, re.MULTILINE) == ["Options", *GROUPS]
    assert out.index("  serve ") < out.index("  play ") < places[1] < out.index("  collect ") < out.index("  train ")


def test_ways_to_ask_for_help(typed: Any) -> None:
    assert typed("--version") == (0, f"dreamenv {dreamenv.__version__}\n", "")
    assert typed("help", "eval") == typed("eval", "-h") == typed("eval", "--help")
    assert typed("help") == typed("-h")
    status, out, err = typed("data")
    assert (status, err) == (0, "")
    assert "  show " in out
    assert "..." not in out.replace("[ARGS]...", "")


def test_what_is_missing_is_named(typed: Any) -> None:
    status, _, err = typed("eval")
    assert status == 2
    assert err == (
        "dreamenv: Missing argument 'ID|BUNDLE'. Give the id of a dream or the folder of a bundle; "
        "registered: DreamCarRacing-v0, DreamCarRacing-v1, DreamDoom-v0, DreamDoom-v1\n"
    )


def test_the_shell_completes_ids(typed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_DREAMENV_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "dreamenv eval DreamD")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert typed()[1].split() == ["DreamDoom-v0", "DreamDoom-v1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["eval", "DreamDoom-v0", "--json", "note/x.json"], "--json note/x.json: note is a file; expected a folder"),
        (["eval", "DreamDoom-v0", "--json", "folder"], "--json folder: this is a folder; expected the name of a file"),
        (["collect", "DreamDoom-v0", "--out", "note"], "--out note: note is a file; expected a folder"),
        (["video", "DreamDoom-v0", "--file", "x.avi"], "--file x.avi: expected a name that ends in .mp4 or .gif"),
        (["play", "DreamDoom-v0", "--record", "x"], "--record x: expected a name that ends in .mp4 or .gif"),
        (["gap", "DreamDoom-v0", "--html", "closed/gap.html"], "--html closed/gap.html: no permission to write in"),
    ],
)
def test_places_are_checked_before_work_begins(
    typed: Any, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the work has begun")

    for place in ("world_model.WorldModel.load", "bundle.read_bundle", "data.collect.collect"):
        monkeypatch.setattr(f"dreamenv.{place}", work)
    allowed = os.access
    closed = tmp_path / "closed"
    # Permissions do not bind the superuser, who may run the tests
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "closed" and allowed(path, mode))
    closed.mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "note").write_text("")
    status, out, err = typed(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), "runs/x: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "score.json"), "score.json: No such file"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (
            OSError(
                "Can't synchronously write data (file write failed: time = Mon, filename = 'runs/x/1.h5', file "
                "descriptor = 9, errno = 28, error message = 'No space left on device', buf = 0x1)"
            ),
            "runs/x/1.h5: No space left on device",
        ),
    ],
)
def test_what_the_system_refuses_is_one_line(
    typed: Any, error: OSError, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **kwargs: Any) -> None:
        try:
            raise error
        finally:
            # HDF5 fails once more when it closes the file
            raise RuntimeError("unable to close")

    monkeypatch.setattr("dreamenv.data.collect.collect", refused)
    status, _, err = typed("collect", "--real", "Pendulum-v1")
    assert (status, len(err.splitlines())) == (2, 1)
    assert err.startswith(f"dreamenv: {line}")


def test_errors_of_ours_have_no_line() -> None:
    assert one_line(ZeroDivisionError()) is None
    assert one_line(OSError(errno.EINVAL, "Invalid argument")) is None


def test_missing_files_of_publish_are_one_line(typed: Any) -> None:
    status, _, err = typed("publish", "DreamDoom-v0", "--run", "r", "--score", "no.json", "--baseline", "no.json")
    assert (status, err) == (2, "dreamenv: no.json: cannot be read (No such file or directory)\n")


def test_a_bundle_without_an_agent_is_no_broken_one(bundle: Path) -> None:
    (bundle / "agent.safetensors").unlink()
    with pytest.raises(BundleError, match="no agent here yet.*Make one: dreamenv evolve") as caught:
        call("eval", bundle, "--workers", "0")
    assert "incomplete" not in str(caught.value)
    moved = bundle.rename(bundle.parent / "model")  # no bundle of a run
    (moved.parent / "agent").mkdir()
    (moved.parent / "agent" / "agent.safetensors").touch()
    with pytest.raises(BundleError, match=re.escape(f"There is one in {moved.parent / 'agent'}: --agent")):
        call("eval", moved, "--workers", "0")


def test_the_folder_of_a_run_is_an_id_and_its_agent_is_found(bundle: Path) -> None:
    run = bundle.parent
    (run / "agent").mkdir()
    (bundle / "agent.safetensors").rename(run / "agent" / "agent.safetensors")
    for named in (run, bundle):
        shown = call("eval", named, "--workers", "0", "--episodes", "1").stdout
        assert f"Colour-v0, agent {run / 'agent'}: " in shown
    assert gym.make("DreamDoom-v0", checkpoint=str(run)).action_space == gym.spaces.Discrete(3)
    assert agent_folder(str(run)) == agent_folder(str(bundle)) == run / "agent"
    assert agent_folder("DreamDoom-v0") == Path("runs/DreamDoom-v0/agent")


def test_a_score_has_yardsticks_and_a_next_verb(bundle: Path, tmp_path: Path) -> None:
    arguments = ["eval", bundle, "--workers", "0", "--episodes"]
    shown = call(*arguments, "1").stdout
    assert re.search(r"Colour-v0, agent shipped: -?[\d.]+ in 1 episode\n", shown)
    assert "for comparison, from the bundle: the shipped agent 750.4 ± 12.0 over 100 episodes\n" in shown
    assert f"next: dreamenv gap {bundle} --html gap.html\n" in shown
    baseline = {"mean": 1.25, "std": 0.5, "episodes": 7}
    edit_config(bundle, lambda config: config.update(provenance={"baseline": baseline}))
    assert "from the bundle: random 1.2 ± 0.5 over 7 episodes\n" in call(*arguments, "2").stdout
    shown = call(*arguments, "2", "--agent", "random").stdout
    assert "for comparison" not in shown, "this is what it would be compared with"
    assert "next:" not in shown
    edit_config(bundle, lambda config: config.update(provenance={}))
    shown = call(*arguments, "2").stdout
    assert f"for comparison: dreamenv eval {bundle} --agent random\n" in shown
    assert "real frames consumed by model and agent: not known" in shown


def test_stages_name_the_next_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shown = call("collect", "--real", "CartPole-v1", "--episodes", "1", "--workers", "0", "--out", run).stdout
    assert f"next: dreamenv train --real CartPole-v1 --out {run}\n" in shown
    assert "next: dreamenv serve DreamCarRacing-v0\n" in call("list").stdout


def test_an_environment_of_another_package_is_hinted_at() -> None:
    with pytest.raises(Exception, match=r"with the module that registers it, such as ale_py:ALE/Pong-v5") as got:
        call("train", "--real", "ZzNothingLikeIt-v4")
    assert len(str(got.value)) < 400
    assert did_you_mean("x", [f"name {number}" for number in range(100)]) == "None of the 100 known names is near."


def test_missing_extras_are_named_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(*args: Any, **kwargs: Any) -> Any:
        raise MissingExtraError("vizdoom cannot be imported")

    monkeypatch.setattr("dreamenv.workflows.demo.make_real_env", missing)
    monkeypatch.setattr("dreamenv.workflows.demo._NEEDED", ("nothing_like_it", "numpy"))
    with pytest.raises(MissingExtraError, match=r"nothing_like_it and what .* needs .*dreamenv\[real,train\]"):
        call("demo", "--out", tmp_path / "demo")
    monkeypatch.setattr("dreamenv.workflows.demo._NEEDED", ("numpy",))
    with pytest.raises(MissingExtraError, match="vizdoom cannot be imported"):
        call("demo", "--out", tmp_path / "demo")


def test_a_film_that_cannot_be_written_is_not_played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = __import__("importlib").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "imageio" else found(name))
    monkeypatch.setattr("dreamenv.world_model.WorldModel.load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(MissingExtraError, match="imageio"):
        call("video", "DreamDoom-v0", "--file", tmp_path / "x.mp4")


@pytest.mark.parametrize("option", ["--html", "--out"])
def test_a_gap_that_cannot_be_drawn_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr("dreamenv.world_model.WorldModel.load", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(MissingExtraError, match="matplotlib"):
        call("gap", "DreamDoom-v0", option, tmp_path / "gap.html")


def test_a_rate_needs_time_and_units(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("dreamenv.cli.progress.time.monotonic", lambda: now[0])
    Progress("memory", 80, "step").update(80)
    bar = Progress("encode", 500, "row")
    bar.update(0)
    now[0] += 1e-4
    bar.update(500)
    clock = Countdown("evolve", 240)
    for seconds in (10, 300):
        now[0] += seconds
        clock.update(3, "generation 3")
    clock.close()
    assert capsys.readouterr().err.splitlines() == [
        "memory: 80/80",
        "encode: 500/500",
        "evolve: 10/240 s  generation 3",
        "evolve: 240/240 s  generation 3",
    ]


def test_groups_that_name_no_title_are_shown_too() -> None:
    group = Verbs(name="x", commands={"b": _Command(None), "a": _Command("Look"), "c": _Command(object())})
    assert group.grouped() == {"Look": ["a"], "Commands": ["b", "c"]}


class _Command:
    def __init__(self, panel: Any) -> None:
        self.rich_help_panel = panel


def test_bad_settings_of_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a name that ends in"):
        call("video", "DreamDoom-v0", "--file", tmp_path / "film")
