"""How many files a reader opens to follow what happens, counted while it happens."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

import dreamenv
from dreamenv.agents import LinearController, weight_shape
from dreamenv.data.preprocess import PreprocessedEnv
from dreamenv.envs import DreamEnv
from dreamenv.scoring import evaluate, score
from dreamenv.scoring.gap import record_agent
from dreamenv.scoring.play import RealEpisodes
from dreamenv.types import RealEnvSpec
from tests.fakes import trained_like_world_model

PACKAGE = Path(dreamenv.__file__).parent


def files_run(act: Callable[[], Any], *, begin: CodeType, end: CodeType) -> set[str]:
    """The package's files in which functions run from the first call of `begin` until `end` returns, callers included.

    `act` has to call `begin` within `end`.
    """
    found: set[str] = set()
    begun = ended = False

    def note(code: CodeType) -> None:
        path = Path(code.co_filename)
        if path.is_relative_to(PACKAGE):
            found.add(path.relative_to(PACKAGE).as_posix())

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal begun, ended
        if event == "call" and frame.f_code is begin and not begun:
            begun = True
            caller: FrameType | None = frame
            while caller is not None and caller.f_code is not end:
                note(caller.f_code)
                caller = caller.f_back
            note(end)
        if begun and not ended and event == "call":
            note(frame.f_code)
        if event == "return" and frame.f_code is end:
            ended = True

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        act()
    finally:
        sys.setprofile(before)
    assert begun
    assert ended
    return found


def links(files: set[str], boxes: dict[str, str]) -> set[str]:
    """The files, but one link for all of those in folders that a reader may leave shut behind their interface."""
    return {next((box for folder, box in boxes.items() if file.startswith(folder)), file) for file in files}


# V, M with the noise that it draws from, and the agent: their interfaces say what they do
SHUT = {"vision/": "V", "memory/": "M", "noise/": "M", "agents/": "the agent"}


@pytest.mark.parametrize("dream", ["DreamCarRacing-v0", "DreamDoom-v0"])
def test_from_gym_make_to_a_sampled_latent(dream: str) -> None:
    """The environment, its rollout, the check of actions, the noise, the step and the watch over its weights."""
    env = gym.make(dream)
    env.reset(seed=0)
    action = env.action_space.sample()
    files = files_run(lambda: env.step(action), begin=DreamEnv.step.__code__, end=type(env).step.__code__)
    env.close()
    assert {"envs/dream_env.py", "noise/hashed.py", "memory/mdn_rnn/fast/single.py"} <= files
    assert len(files) <= 6, sorted(files)


# The gap's episodes are kept whole, by a recorder as an `Episode`
@pytest.mark.parametrize(("measured", "most"), [("score", 9), ("gap", 10)])
def test_from_the_real_environment_to_a_score(measured: str, most: int) -> None:
    action_space = spaces.Box(-2, 2, (1,), np.float32)
    real = RealEnvSpec("Pendulum-v1", max_episode_steps=4)
    model = trained_like_world_model(action_space=action_space, image=False, real=real, latent_size=3)
    agent = LinearController(np.ones(weight_shape(model)), model.observation_space(), action_space)
    lengths: list[int] = []

    def act() -> None:
        if measured == "score":
            lengths.extend(evaluate(model, agent, episodes=1, workers=0).lengths)
        else:
            lengths.extend(len(episode) for episode in record_agent(model, agent, episodes=1, seed=0, workers=0))

    end = score._play if measured == "score" else RealEpisodes.record
    files = files_run(act, begin=PreprocessedEnv.step.__code__, end=end.__code__)
    assert lengths == [4]
    chain = links(files, SHUT)
    assert {"V", "M", "the agent", "data/preprocess.py", "scoring/play.py"} <= chain
    assert len(chain) <= most, sorted(chain)
