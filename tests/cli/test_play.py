"""`dreamenv play` without a screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from typer.testing import CliRunner

import dreamenv
from dreamenv.cli import app
from dreamenv.cli.play import keyboard_action
from tests.fakes import trained_like_world_model, write_registry

CAR = spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32))


@pytest.mark.parametrize(
    ("space", "keys", "wanted"),
    [
        (spaces.Discrete(3), set(), 0),
        (spaces.Discrete(3), {"RIGHT"}, 1),
        (spaces.Discrete(3), {"LEFT"}, 2),
        (spaces.Discrete(3), {"LEFT", "RIGHT"}, 0),
        (spaces.Discrete(6, start=1), {"4"}, 5),
        (spaces.Discrete(6), {"9"}, 0),
        (CAR, {"LEFT", "UP"}, [-1, 1, 0]),
        (CAR, {"DOWN"}, [0, 0, 1]),
        (spaces.Box(-2, 2, (1,)), {"RIGHT"}, [2]),
        (spaces.Box(-2, 2, (2,)), {"DOWN"}, [0, -2]),
    ],
)
def test_keys_mean_actions(space: spaces.Space, keys: set[str], wanted: object) -> None:
    action = keyboard_action(space, keys)
    assert space.contains(action)
    np.testing.assert_array_equal(action, wanted)


@pytest.mark.parametrize("player", [[], ["--agent", "random"]])
def test_a_dream_is_played(player: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    dreamenv.register(write_registry(tmp_path, "DreamPlayed-v0", trained_like_world_model()))
    arguments = ["play", "DreamPlayed-v0", "--episodes", "2", "--steps", "2", *player]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].startswith("episode 2: ")
