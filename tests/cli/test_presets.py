"""Own environments by the command line: a preset file, an id in a module of the current folder, what a run holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import yaml

from dreamenv.cli.presets import chosen_preset, default_run
from dreamenv.data.collect import collect
from dreamenv.errors import ConfigurationError, NonFiniteError, RegistryError
from dreamenv.registry import read_registry
from dreamenv.types import RealEnvSpec
from tests.command_line import call

OWN = """
import gymnasium as gym
import numpy as np


class Walk(gym.Env):
    '''A place on a line and a goal; the agent sees both, with a text.'''

    observation_space = gym.spaces.Dict(
        place=gym.spaces.Box(-9, 9, (1,)), goal=gym.spaces.Discrete(3), text=gym.spaces.Text(4)
    )
    action_space = gym.spaces.MultiDiscrete([3, 2])

    def __init__(self, size=(1, 2)):
        assert size == (1, 2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = np.zeros(1, np.float32), self.np_random.integers(3)
        return self._seen(), {}

    def step(self, action):
        self.place += (action[0] - 1) * (1 + action[1])
        return self._seen(), -abs(float(self.place[0]) - self.goal), bool(abs(self.place[0]) > 8), False, {}

    def _seen(self):
        return {"place": self.place.copy(), "goal": self.goal, "text": "go"}


class Filmed(Walk):
    '''The same, with a picture in place of the text.'''

    observation_space = gym.spaces.Dict(
        place=gym.spaces.Box(-9, 9, (1,)), film=gym.spaces.Box(0, 255, (20, 30, 3), np.uint8)
    )

    def _seen(self):
        return {"place": self.place.copy(), "film": np.zeros((20, 30, 3), np.uint8)}


gym.register("Walk-v0", entry_point="own_walk:Walk", max_episode_steps=12)
gym.register("FilmedWalk-v0", entry_point="own_walk:Filmed", max_episode_steps=12)
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_walk.py").write_text(OWN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("own_walk", None)
    for name in ("Walk-v0", "FilmedWalk-v0"):
        gym.registry.pop(name, None)


def test_init_writes_what_it_found_and_train_takes_it(own_module: Path) -> None:
    shown = call("init", "own_walk:Walk-v0").stdout
    assert "it cannot be taken as it is" in shown
    assert "change Walk-v0.yaml first, then: dreamenv train --config Walk-v0.yaml" in shown
    file = own_module / "Walk-v0.yaml"
    text = file.read_text(encoding="utf-8")
    assert "# one of place, goal, text" in text
    entry = read_registry(file)["DreamWalk-v0"].section
    assert (entry.real.id, entry.real.max_episode_steps, entry.dream.max_episode_steps) == ("own_walk:Walk-v0", 12, 12)
    with pytest.raises(ConfigurationError, match="is there already"):
        call("init", "own_walk:Walk-v0")
    changed = text.replace("observation_key: null", "observation_key: [goal, place]").replace(
        "kwargs: {} ", "kwargs: {size: {__tuple__: [1, 2]}} "
    )
    file.write_text(changed, encoding="utf-8")
    small = ["memory.hidden_size=4", "memory.mixtures=1", "fit_memory.steps=2", "fit_memory.sequence_length=12"]
    settings = [word for size in small for word in ("--set", size)]
    call("train", "--config", file, "--frames", "40", *settings, "--workers", "0")
    run = own_module / "runs" / "Walk-v0"
    found = json.loads((run / "bundle" / "config.json").read_text(encoding="utf-8"))
    assert found["action_space"] == {"kind": "discrete", "n": 6, "start": 0}
    assert (found["vision"]["latent_size"], found["max_episode_steps"]) == (4, 12)
    assert found["real"]["kwargs"] == {"size": {"__tuple__": [1, 2]}}
    (name,) = yaml.safe_load((run / "registry.yaml").read_text(encoding="utf-8"))["environments"]
    assert name == "DreamWalk-v0"
    # the run is an id, and what is made of it lies beside it
    call("evolve", run, "--generations", "1", "--population", "4", "--rollouts", "1", "--horizon", "3")
    shown = call("eval", run, "--episodes", "2", "--workers", "0").stdout
    assert f"agent {run / 'agent'}" in shown
    assert chosen_preset(None, None, None, run).real == entry.real.spec().__class__.from_json(found["real"])


def test_init_takes_the_picture_of_a_dict(own_module: Path) -> None:
    shown = call("init", "own_walk:FilmedWalk-v0", "--steps", "20").stdout
    assert "prepared: entry 'film'" in shown
    assert "next: dreamenv train --config FilmedWalk-v0.yaml" in shown
    text = (own_module / "FilmedWalk-v0.yaml").read_text(encoding="utf-8")
    assert "observation_key: film       # one of place, film; or a list of vectors, joined to one" in text
    assert "crop: null" in text
    section = read_registry(own_module / "FilmedWalk-v0.yaml")["DreamFilmedWalk-v0"].section
    assert section.real.observation_key == "film"
    assert "fit_vision" in section.train.options


def test_init_tries_the_environment(own_module: Path) -> None:
    shown = call("init", "CartPole-v1", "--file", "new/cart.yaml", "--steps", "60").stdout
    assert "60 random frames: rewards from 1 to 1" in shown
    text = Path("new/cart.yaml").read_text(encoding="utf-8")
    assert "# time limit: 500 real frames" in text
    assert "- policy: sticky" in text
    assert set(read_registry(Path("new/cart.yaml"))) == {"DreamCartPole-v1"}


def test_init_says_what_an_environment_does_wrong(own_module: Path) -> None:
    source = OWN.replace("super().reset(seed=seed)", "raise RuntimeError('no reset')")
    (own_module / "own_walk.py").write_text(source, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="FilmedWalk-v0 cannot be played: RuntimeError: no reset. Correct"):
        call("init", "own_walk:FilmedWalk-v0", "--steps", "20")
    assert not (own_module / "FilmedWalk-v0.yaml").exists()


def test_init_refuses_rewards_that_are_not_finite(own_module: Path) -> None:
    source = OWN.replace("-abs(float(self.place[0]) - self.goal)", "float('nan')")
    (own_module / "own_walk.py").write_text(source, encoding="utf-8")
    with pytest.raises(NonFiniteError, match="FilmedWalk-v0 pays rewards that are not finite"):
        call("init", "own_walk:FilmedWalk-v0", "--steps", "20")


def test_one_of_the_ways_to_name_an_environment_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match="--real with a Gymnasium id, --config with a preset file, or --out"):
        chosen_preset(None, None, None, tmp_path)
    with pytest.raises(ConfigurationError, match="give either"):
        chosen_preset("DreamDoom-v0", "Pendulum-v1", None, None)
    with pytest.raises(RegistryError, match="cannot be read"):
        chosen_preset(None, None, tmp_path / "none.yaml", None)
    real = RealEnvSpec("Pendulum-v1", {"g": 9.0}, max_episode_steps=5)
    collect(real, tmp_path / "run" / "episodes", episodes=1, workers=0)
    found = chosen_preset(None, None, None, tmp_path / "run", limit=7)
    assert (found.real.kwargs, found.real.max_episode_steps, found.out) == ({"g": 9.0}, 7, tmp_path / "run")
    assert found.section is None


def test_each_environment_has_a_run_of_its_own() -> None:
    assert chosen_preset(None, "CartPole-v1", None, None).out == Path("runs/CartPole-v1")
    assert default_run(RealEnvSpec("ale_py:ALE/Breakout-v5")) == Path("runs/ALE_Breakout-v5")


def test_a_time_limit_goes_to_the_environment_and_to_the_dream() -> None:
    plain = chosen_preset("DreamCarRacing-v0", None, None, None)
    assert plain.dream_steps(None, None) == 250
    limited = chosen_preset("DreamCarRacing-v0", None, None, None, limit=400)
    assert limited.real.max_episode_steps == 400
    assert limited.dream_steps(None, 400) is None  # the real limit's
    assert limited.dream_steps(70, 400) == 70
    assert limited.command("train", "rssm", ["a=1"]) == (
        "dreamenv train DreamCarRacing-v0 --max-episode-steps 400 --recipe rssm --set a=1"
    )
