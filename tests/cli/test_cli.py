"""The command line: help with an example, errors on one line, no traceback."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

import dreamenv.cli as cli
from dreamenv.data.episodes import EpisodeStore
from dreamenv.training.ledger import read_ledger

Capture = pytest.CaptureFixture[str]
# What these verbs make is looked at, played or put in place.
NO_FIGURES = {"play", "plot", "publish", "serve", "video"}
NOTHING_IS_DRAWN = {"compare", "data check", "data show", "list", "publish"}


def commands_of(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    """Each command below `group` and what one types for it; a group of commands is one too."""
    for name, command in getattr(group, "commands", {}).items():
        yield " ".join((*names, name)), command
        yield from commands_of(command, *names, name)


def app_of_all_files() -> Any:
    """The app with the verbs of every file in `dreamenv/cli`, whether or not `main` thinks of the file."""
    for module in pkgutil.iter_modules(cli.__path__):
        importlib.import_module(f"dreamenv.cli.{module.name}")
    return typer.main.get_command(cli.app)


COMMANDS = dict(commands_of(app_of_all_files()))
VERBS = sorted(name for name in COMMANDS if " " not in name)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: Capture, tmp_path: Path) -> Any:
    """Run `dreamenv ARGUMENTS` in this process; returns exit status, standard output and standard error."""
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
        assert "Traceback" not in out + err
        return status, out, err

    return run


def test_alone_it_says_what_it_can(call: Any) -> None:
    for arguments in ((), ("--help",)):
        status, out, err = call(*arguments)
        assert (status, err) == (0, "")
        assert all(re.search(rf"^  {verb} ", out, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_help_with_an_example(call: Any, verb: str) -> None:
    status, out, _ = call(*verb.split(), "--help")
    assert status == 0
    assert f"Example: dreamenv {verb} " in " ".join(out.split()) + " "


def test_every_option_says_what_it_is() -> None:
    silent = [
        (name, parameter.name)
        for name, command in COMMANDS.items()
        for parameter in command.params
        if not parameter.help
    ]
    assert silent == []


@pytest.mark.parametrize("verb", [name for name in COMMANDS if not hasattr(COMMANDS[name], "commands")])
def test_one_word_means_one_thing(call: Any, verb: str) -> None:
    """The id comes first and bare, `--out` is a folder, `--json` takes a file, `--workers 0` is this process."""
    parameters = {option: parameter for parameter in COMMANDS[verb].params for option in parameter.opts}
    assert verb == "list" or COMMANDS[verb].params[0].param_type_name == "argument"
    assert "--id" not in parameters
    if "--out" in parameters:
        assert re.search("[Ff]older|directory", parameters["--out"].help)
    if "--json" in parameters:
        assert parameters["--json"].metavar == "FILE"
    if "--workers" in parameters:
        help_text = " ".join(call(*verb.split(), "--help")[1].split())
        assert "0 works in this one." in help_text
        without = {
            "distill": "all dreams at once, in this process",
            "evolve": "the population in this process; validation one a core",
        }.get(verb, "one a core")
        assert f"[default: ({without})]" in help_text


def test_verbs_that_report_figures_write_json_and_those_that_draw_take_a_seed() -> None:
    options = {
        name: {option for parameter in command.params for option in parameter.opts}
        for name, command in COMMANDS.items()
        if not hasattr(command, "commands")
    }
    assert {name for name, taken in options.items() if "--json" not in taken} == NO_FIGURES
    assert {name for name, taken in options.items() if "--seed" not in taken} == NOTHING_IS_DRAWN


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evolv"], "evolve"),
        (["eval", "DreamDom-v0"], "no dream is called 'DreamDom-v0'. Did you mean DreamDoom-v0"),
        (["evolve", "DreamDom-v0"], "Did you mean DreamDoom-v0"),
        (["collect", "DreamCarRacin-v0"], "Did you mean DreamCarRacing-v0"),
        (
            ["train", "--real", "Pendullum-v1"],
            "Gymnasium knows no environment 'Pendullum-v1'. Did you mean Pendulum-v1",
        ),
        (["collect", "--real", "nothing_like_it:Own-v0", "--workers", "0"], "nothing_like_it:Own-v0 cannot be made"),
        (["collect"], "either a dream's id"),
        (["collect", "DreamDoom-v0", "--real", "Pendulum-v1"], "either a dream's id"),
        (["collect", "--real", "Pendulum-v1", "--frames", "0"], "frames >= 1"),
        (["collect", "--real", "Pendulum-v1", "--agent", "x"], "--agent needs --model"),
        (["collect", "--real", "Pendulum-v1", "--seed", "5000"], "'--seed'"),
        (["collect", "--frame", "1"], "--frames"),
        (["train", "--real", "Pendulum-v1", "--frames", "many"], "'--frames'"),
        (["eval", "no/such/folder"], "no such folder"),
    ],
)
def test_bad_input_gets_one_line_and_status_2(call: Any, arguments: list[str], message: str) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("dreamenv: ")
    assert message in err


def test_ctrl_c_leaves_a_hint(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dreamenv.data.collect.collect", interrupted)
    status, _, err = call("collect", "--real", "Pendulum-v1")
    assert (status, err) == (130, "stopped; the same command continues from the last checkpoint\n")
    monkeypatch.setattr("dreamenv.registry.entries", interrupted)
    assert call("list") == (130, "", "stopped\n")


def test_sigterm_is_told_as_ctrl_c_is(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unwound = []

    def terminated(*args: Any, **kwargs: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            unwound.append(True)

    monkeypatch.setattr("dreamenv.data.collect.collect", terminated)
    before = signal.getsignal(signal.SIGTERM)
    status, _, err = call("collect", "--real", "Pendulum-v1")
    assert (status, err) == (143, "stopped; the same command continues from the last checkpoint\n")
    assert unwound == [True]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.integration
def test_an_error_in_a_worker_is_one_line(root: Path, tmp_path: Path) -> None:
    """The environment can be made, so that nobody notices before a worker plays it."""
    (tmp_path / "worn_out.py").write_text(
        """
import gymnasium as gym
import numpy as np


class WornOut(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        raise RuntimeError("the motor is gone")


gym.register("WornOut-v0", entry_point=WornOut, max_episode_steps=5)
""",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "dreamenv", "collect", "--real", "worn_out:WornOut-v0", "--episodes", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{tmp_path}"}
    ended = subprocess.run(
        [*command, "--workers", "1", "--out", str(tmp_path / "run")], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert {re.sub(r"\d+", "N", line) for line in ended.stdout.splitlines()} == {
        "episode N is skipped: RuntimeError: the motor is gone"
    }
    line = ended.stderr.splitlines()[-1]
    assert line.startswith("dreamenv: ")
    assert "the motor is gone" in line
    assert "Traceback" not in ended.stderr


def test_an_error_of_ours_is_not_hidden(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("dreamenv.data.collect.collect", broken)
    with pytest.raises(ZeroDivisionError):
        call("collect", "--real", "Pendulum-v1")


def test_collect_writes_episodes_ledger_settings_and_figures(call: Any, tmp_path: Path) -> None:
    command = [
        "collect",
        "--real",
        "CartPole-v1",
        "--episodes",
        "3",
        "--workers",
        "0",
        "--out",
        "run",
        "--json",
        "c.json",
    ]
    status, out, _ = call(*command)
    store = EpisodeStore(tmp_path / "run" / "episodes")
    figures = json.loads((tmp_path / "c.json").read_text())
    assert status == 0
    assert (len(store), figures["episodes"]) == (3, 3)
    assert figures["real_frames"] == store.real_frames == read_ledger(tmp_path / "run")["collect"]
    assert f"3 episodes, {store.real_frames:,} real frames" in out
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["collect"]["real"] == "CartPole-v1"
    # the same command again has nothing left to do
    assert call(*command)[0] == 0
    assert len(store) == 3


@pytest.mark.integration
def test_the_module_runs(root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "dreamenv", "eval", "DreamDom-v0"], cwd=root, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("dreamenv: no dream is called 'DreamDom-v0'. Did you mean DreamDoom-v0")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.integration
def test_a_new_process_knows_every_verb(run_python: Any) -> None:
    listed = run_python("-m", "dreamenv", "--help").stdout.partition("Look:")[2]
    assert sorted(re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE)) == VERBS
