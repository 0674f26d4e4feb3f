"""What the options of learning in imagination mean, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamenv.agents.imagination import train_actor_critic
from dreamenv.agents.options import ImaginationOptions
from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError
from tests.fakes import BOX, CountingMemory, fake_world_model


def test_starts_are_shared_between_replay_and_initial(tmp_path: Path) -> None:
    """The fake's replay states have an age of 2, its initial ones of 0: the first reward tells them apart."""
    model = fake_world_model(CountingMemory(), action_space=BOX)
    ages = {}
    for share in (0.0, 0.25, 1.0):
        rows: list[dict[str, float]] = []
        options = ImaginationOptions(steps=1, batch_size=8, horizon=1, width=8, replay_share=share)
        train_actor_critic(
            model,
            out_dir=tmp_path / str(share),
            options=options,
            progress=lambda step, steps, scalars, rows=rows: rows.append(scalars),  # type: ignore[misc]
        )
        ages[share] = rows[0]["train/dream_reward"]
    # The policy begins near the middle of the Box, whose sum is 1, with the same noise
    assert ages[1.0] - ages[0.0] == pytest.approx(2, abs=0.05)
    assert ages[0.25] - ages[0.0] == pytest.approx(0.5, abs=0.05)


def test_first_observations_are_starts_of_their_own(tmp_path: Path) -> None:
    """Where dreams begin behind a start margin, a share of them may begin before it."""
    model = fake_world_model(CountingMemory(), action_space=BOX)
    settled = {name: part.clone() for name, part in model.starts.replay.items()}
    model.starts = StartStates(model.starts.first, model.starts.replay, settled)
    rewards = {}
    for share in (0.0, 1.0):
        rows: list[dict[str, float]] = []
        train_actor_critic(
            model,
            out_dir=tmp_path / str(share),
            options=ImaginationOptions(steps=1, batch_size=8, horizon=1, width=8, replay_share=0.0, first_share=share),
            progress=lambda step, steps, scalars, rows=rows: rows.append(scalars),  # type: ignore[misc]
        )
        rewards[share] = rows[0]["train/dream_reward"]
    # settled states have an age of 2 here, first observations of 0
    assert rewards[0.0] - rewards[1.0] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient": "both"}, "gradient='both' is not known"),
        ({"replay_share": 0.9, "first_share": 0.2}, "at most 1 together"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
        ({"discount": 0.0}, "discount must be in"),
        ({"trace": 1.5}, "trace must be in"),
        ({"replay_share": -0.1}, "replay_share must be in"),
        ({"target_rate": 2.0}, "target_rate must be in"),
        ({"entropy": -1.0}, "entropy must be at least 0"),
        ({"temperature": -1.0}, "temperature must be a finite number of at least 0"),
        ({"reward_clip": (1.0, -1.0)}, "reward_clip must be"),
        ({"reward_squash": 0.0}, "reward_squash must be above 0"),
        ({"gradient_clip": 0.0}, "gradient_clip must be above 0"),
        ({"actor_average": 0.0}, r"actor_average must be in \(0, 1\]"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ImaginationOptions(**options)
