"""`dreamenv train` and `dreamenv loop`: the preset's recipe and options, changed by `--recipe` and `--set`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamenv import registry
from dreamenv.bundle_config import read_config
from dreamenv.cli.options import recipe_and_options
from dreamenv.errors import ConfigurationError, RegistryError
from dreamenv.registry import read_registry
from dreamenv.training.recipes.ensemble import EnsembleOptions
from dreamenv.training.recipes.mdn_rnn import MDNRNNOptions
from tests.command_line import call

LOOP: dict[str, Any] = {
    "rounds": 2,
    "first_frames": 90,
    "greedy_episodes": 1,
    "noisy_episodes": 1,
    "validation_episodes": 1,
    "train_ratio": 5.0,
    "train": {"replay_starts": 8},
    "agent": {"steps": 1, "batch_size": 4, "horizon": 2, "width": 8},
}


@pytest.fixture
def entry() -> dict[str, Any]:
    """The entry of DreamOwn-v0 in the registry; what is changed in it holds once `known` is called."""
    return {
        "latent_id": "LatentOwn-v0",
        "checkpoint": "bundle",
        "real": {"id": "Pendulum-v1", "max_episode_steps": 30},
        "dream": {"max_episode_steps": 20},
        "train": {"frames": 90, "options": {"memory": {"hidden_size": 8}, "fit_memory": {"steps": 7}}},
    }


@pytest.fixture
def known(entry: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def write() -> registry.EnvironmentSection:
        file = tmp_path / "registry.yaml"
        file.write_text(yaml.safe_dump({"format": 1, "environments": {"DreamOwn-v0": entry}}), encoding="utf-8")
        monkeypatch.setattr(registry, "_entries", read_registry(file))
        return registry.find("DreamOwn-v0").section

    return write


def test_settings_change_the_preset(known: Any) -> None:
    name, options = recipe_and_options(known(), None, ["fit_memory.batch_size=4", "memory.dropout=0.5"])
    assert name == "mdn_rnn"
    assert isinstance(options, MDNRNNOptions)
    assert (options.memory.hidden_size, options.memory.dropout) == (8, 0.5)
    assert (options.fit_memory.steps, options.fit_memory.batch_size) == (7, 4)


def test_another_recipe_starts_from_its_own_defaults(known: Any) -> None:
    section = known()
    assert recipe_and_options(section, "ensemble", ["memory.members=6"])[1].memory.members == 6
    assert recipe_and_options(section, "ensemble", []) == ("ensemble", EnsembleOptions())
    assert recipe_and_options(section, "mdn_rnn", [])[1].fit_memory.steps == 7  # the preset's by its name
    assert recipe_and_options(None, None, []) == ("mdn_rnn", MDNRNNOptions())


def test_what_is_wrong_in_a_preset_is_named_with_its_file(entry: dict[str, Any], known: Any) -> None:
    entry["train"]["options"]["fit_memory"] = {"step": 3}
    with pytest.raises(
        RegistryError, match=r"registry\.yaml: environments\.DreamOwn-v0\.train\.options\.fit_memory\.step"
    ):
        recipe_and_options(known(), None, [])
    entry["train"]["recipe"] = "mdn_rn"
    with pytest.raises(RegistryError, match=r"DreamOwn-v0\.train\.recipe: no recipe is called 'mdn_rn'. Did you mean"):
        recipe_and_options(known(), None, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "fit_memory.step=3"], r"mdn_rnn\.fit_memory\.step: unknown option. Did you mean steps"),
        (["--set", "fit_memory.steps=soon"], r"mdn_rnn\.fit_memory\.steps: found 'soon'"),
        (["--set", "fit_memory.steps"], "expected KEY=VALUE"),
        (["--set", "fit_memory.batch_size=0"], r"mdn_rnn\.fit_memory: batch_size must be at least 1, got 0"),
        (["--set", "fit_vision.batch_size=0"], r"mdn_rnn\.fit_vision: batch_size must be at least 1, got 0"),
        (["--set", "fit_vision.learning_rate=-1"], r"mdn_rnn\.fit_vision: .* learning_rate positive"),
        (["--set", "fit_memory.burn_in=128"], r"mdn_rnn\.fit_memory: need sequence_length >= 2 and 0 <= burn_in < it"),
        (["--recipe", "rssm", "--set", "fit.batch_size=0"], r"rssm\.fit: batch_size must be at least 1, got 0"),
        (["--recipe", "rssm", "--set", "fit.sequence_length=1"], r"rssm\.fit: need sequence_length >= 2"),
        (["--recipe", "rssm", "--set", "fit.precision=half"], r"rssm\.fit: precision='half'"),
        (["--recipe", "ensemble", "--set", "fit.learning_rate=nan"], r"ensemble\.fit: need learning_rate above 0"),
        (["--recipe", "ensemble", "--set", "fit.max_steps=-5"], r"ensemble\.fit: .* max_steps of at least 1"),
        (["--recipe", "ensemble", "--set", "memory.elites=9"], r"ensemble\.memory: need 1 <= elites <= members"),
        (["--recipe", "value_equivalent", "--set", "fit.learning_rate=nan"], "learning_rate positive"),
        (["--recipe", "ensembles"], "recipe 'ensembles' is not known. Did you mean ensemble"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "loop"])
def test_wrong_settings_are_found_before_anything_is_collected(
    verb: str, arguments: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        call(verb, "--real", "Pendulum-v1", "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run").exists()


def test_an_unknown_planner_is_found_before_anything_is_collected(tmp_path: Path) -> None:
    arguments = ["loop", "--real", "CartPole-v1", "--recipe", "ensemble", "--out", tmp_path / "run", "--learner"]
    with pytest.raises(ConfigurationError, match="^planner 'foo' is not known"):
        call(*arguments, "planner:foo")
    with pytest.raises(ConfigurationError, match="got 'horizons=3', expected SETTING=VALUE"):
        call(*arguments, "planner:cem,horizons=3")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loop", "--loop", "noisy_episode=3"], "^noisy_episode: unknown option. Did you mean noisy_episodes"),
        (["loop", "--learner", "planner:cem", "--loop", "agent.horizon=3"], r"^planner:cem\.horizon: unknown option"),
        (["loop", "--loop", "train.recipe=ensemble"], "write --recipe NAME for that"),
        (["loop", "--loop", "train.options.fit.steps=7"], "write --set KEY=VALUE for that"),
        (["loop", "--loop", "train=5"], r"expected train\.KEY=VALUE"),
        (["mbpo", "--set", "branch.last=3"], "^branch: unknown option. Did you mean branches"),
    ],
)
def test_the_command_line_is_to_blame_for_what_it_says(arguments: list[str], message: str, tmp_path: Path) -> None:
    """And not the file whose preset it changes."""
    verb, *rest = arguments
    with pytest.raises(ConfigurationError, match=message) as refused:
        call(verb, "--real", "Pendulum-v1", *rest, "--out", tmp_path / "run")
    assert not isinstance(refused.value, RegistryError)


def test_mbpo_leaves_a_run_of_another_environment_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("loop: {real: CartPole-v1, seed: 0}\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"holds a run of CartPole-v1 \(`loop`\), and this is Pendulum-v1"):
        call("mbpo", "--real", "Pendulum-v1", "--out", tmp_path)
    assert config.read_text(encoding="utf-8") == "loop: {real: CartPole-v1, seed: 0}\n"


@pytest.mark.integration
def test_an_ensemble_by_the_command_line(known: Any, tmp_path: Path) -> None:
    known()
    run, file = tmp_path / "run", tmp_path / "figures.json"
    sizes = ["memory.members=2", "memory.elites=1", "memory.hidden_size=8", "fit.max_epochs=2"]
    settings = [word for size in sizes for word in ("--set", size)]
    call("train", "DreamOwn-v0", "--recipe", "ensemble", *settings, "--workers", "0", "--out", run, "--json", file)
    found = json.loads(file.read_text(encoding="utf-8"))
    assert (found["recipe"], found["options"]["memory"]["members"]) == ("ensemble", 2)
    assert found["command"] == f"dreamenv train DreamOwn-v0 --recipe ensemble {' '.join(settings)} --seed 0"
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["train"]
    assert config["options"]["options"] == found["options"]
    bundle = json.loads((run / "bundle" / "config.json").read_text(encoding="utf-8"))
    assert (bundle["memory"]["kind"], bundle["max_episode_steps"]) == ("probabilistic_ensemble", 20)


@pytest.mark.integration
def test_a_loop_by_the_command_line(entry: dict[str, Any], known: Any, tmp_path: Path) -> None:
    entry["train"] |= {"loop": LOOP, "recipe": "ensemble", "options": {"fit": {"max_epochs": 1}}}
    known()
    file = tmp_path / "figures.json"
    small = ["--set", "memory.members=2", "--set", "memory.elites=1", "--set", "memory.hidden_size=8"]
    call("loop", "DreamOwn-v0", *small, "--workers", "0", "--out", tmp_path / "run", "--json", file)
    row, later = json.loads(file.read_text(encoding="utf-8"))
    assert (row["real_frames"], later["real_frames"]) == (90 + 30, 90 + 30 + 60 + 30)
    kept = [read_config(tmp_path / "run" / "rounds" / number / "bundle") for number in ("00", "01")]
    # the later round learns five times from each of its 60 real steps, 256 at once
    assert [config["provenance"]["options"]["fit"]["max_steps"] for config in kept] == [None, 2]
    assert set(row["held_out"]) == {"error", "reward_r2", "termination"}
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))["loop"]["options"]
    assert (settings["train"]["recipe"], settings["train"]["replay_starts"]) == ("ensemble", 8)
    entry["train"]["loop"] = LOOP | {"round": 3}
    known()
    with pytest.raises(RegistryError, match=r"DreamOwn-v0\.train\.loop\.round: unknown option. Did you mean rounds"):
        call("loop", "DreamOwn-v0", "--out", tmp_path / "other")


@pytest.mark.integration
def test_the_loops_learner_and_grain_are_options(entry: dict[str, Any], known: Any, tmp_path: Path) -> None:
    entry["train"] |= {"loop": LOOP}
    known()
    sizes = ["network.width=8", "memory.hidden_size=8", "memory.groups=2", "memory.classes=2", "memory.width=8"]
    fit = ["fit.batch_size=2", "fit.sequence_length=4", "fit.precision=float32"]
    small = ["--recipe", "rssm", *(word for one in [*sizes, *fit] for word in ("--set", one)), "--workers", "0"]
    planner = "planner:cem,horizon=2,candidates=4,elites=2,iterations=1"
    grain = ["--learner", planner, "--update-every", "1", "--train-ratio", "0.5", "--rounds", "2"]
    file = tmp_path / "figures.json"
    whole = [*small, *grain, "--loop", "validation_episodes=2"]
    call("loop", "DreamOwn-v0", *whole, "--out", tmp_path / "run", "--json", file)
    first, second = json.loads(file.read_text(encoding="utf-8"))
    assert (first["real_frames"], second["real_frames"]) == (90 + 60, 90 + 60 + 60 + 60)
    found = read_config(tmp_path / "run" / "bundle")["provenance"]
    assert found["command"].endswith(
        f"--learner {planner} --train-ratio 0.5 --update-every 1 --rounds 2 --loop validation_episodes=2 --seed 0"
    )
    with pytest.raises(ConfigurationError, match="^learner='evolve' learns by rounds"):
        call("loop", "DreamOwn-v0", *small, "--learner", "evolve", "--update-every", "1", "--out", tmp_path / "other")
