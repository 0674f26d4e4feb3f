"""Seeds that never meet, and episodes that are consistent."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dreamenv.errors import ConfigurationError
from dreamenv.types import (
    SEED_ROLES,
    Control,
    Episode,
    RealEnvSpec,
    Wrapper,
    consumed_frames,
    episode_seeds,
    recorded_fields,
)


def test_seeds_of_different_roles_and_runs_never_meet() -> None:
    """An agent is never scored on an episode that trained or chose it."""
    edges = sorted(
        (episode_seeds(role, seed, 1)[0], episode_seeds(role, seed, 100_000)[-1])
        for role, seed in itertools.product(SEED_ROLES, (0, 1, 2, 2500, 4998, 4999))
    )
    assert all(last < first for (_, last), (first, _) in itertools.pairwise(edges))
    assert edges[0][0] >= 0
    assert edges[-1][1] < 2**31  # what ViZDoom takes


@given(st.sampled_from(sorted(SEED_ROLES)), st.integers(0, 4999), st.integers(0, 50), st.integers(0, 50))
def test_more_episodes_begin_with_the_same(role: str, seed: int, few: int, more: int) -> None:
    few, more = sorted((few, more))
    assert episode_seeds(role, seed, more)[:few] == episode_seeds(role, seed, few)
    assert len(set(episode_seeds(role, seed, more))) == more


@pytest.mark.parametrize(
    ("role", "seed", "count", "message"),
    [
        ("test", 0, 1, "role must be one of"),
        ("collect", -1, 1, "seed must be an integer in"),
        ("collect", 5000, 1, "seed must be an integer in"),
        ("collect", 0, 100_001, "count must be in"),
        ("collect", 0, -1, "count must be in"),
    ],
)
def test_numbers_out_of_range_are_refused(role: str, seed: int, count: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        episode_seeds(role, seed, count)


def episode(observations: int = 4, actions: int = 3, rewards: int = 3) -> Episode:
    return Episode(
        observations=np.zeros((observations, 2), np.float32),
        actions=np.zeros(actions, np.int64),
        rewards=np.full(rewards, 0.1, np.float32),
        terminated=False,
        truncated=True,
        seed=0,
        policy="uniform",
        real_frames=12,
    )


def test_an_episode_has_one_observation_more_than_actions() -> None:
    assert len(episode()) == 3
    assert episode().final_observation_valid
    for sizes in ((3, 3, 3), (4, 4, 3), (4, 3, 4)):
        with pytest.raises(ValueError, match="rewards needs .* observations and .* actions, got"):
            episode(*sizes)


def test_the_return_is_summed_in_double_precision() -> None:
    rewards = np.full(3_000_000, 0.1, np.float32)
    long = dataclasses.replace(
        episode(), rewards=rewards, actions=np.zeros(len(rewards)), observations=np.zeros(len(rewards) + 1)
    )
    assert long.undiscounted_return == pytest.approx(len(rewards) * float(np.float32(0.1)), rel=1e-12)


def test_frames_of_a_model_and_its_agent_are_added_up_where_both_are_known() -> None:
    model = {"real_frames": {"collect": 7, "loop": 8}}
    assert consumed_frames(model, {"real_frames": 1}) == 16
    assert consumed_frames(model) == 15
    assert consumed_frames(model, {"note": "no frames"}) is None
    assert consumed_frames() == 0


def test_types_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        episode().seed = 1  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        RealEnvSpec("x").id = "y"  # type: ignore[misc]


def test_a_real_environment_is_read_as_it_is_written() -> None:
    plain = RealEnvSpec("Pendulum-v1")
    full = RealEnvSpec(
        "Own-v0",
        kwargs={"size": 3},
        crop=(0, 84, 0, 96),
        module="own",
        skip_unseen_frames="car_racing",
        frames_per_second=35.0,
        controls={"LEFT": Control("left", (-1.0, 0.0)), "NONE": Control("roll", (0.0, 0.5)), "1": Control("jump", 1)},
    )
    wrapped = RealEnvSpec(
        "Own-v0",
        {"size": (3, 4), "names": ["a", ("b",)], "deep": {"far": np.float64(0.5), "on": np.True_}},
        (Wrapper("own.wrappers:Grey", {"keep": (1,)}), Wrapper("own.Slow")),
        observation_key=("a", "b"),
        channels=(0, 1, 2),
        action_bounds=((0.0, 1.0), (2.0, 3.0)),
    )
    assert wrapped.kwargs["size"] == (3, 4)
    assert yaml.safe_load(yaml.safe_dump(wrapped.to_json())) == wrapped.to_json()
    for spec in (plain, full, wrapped):
        assert RealEnvSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert RealEnvSpec.from_json(dataclasses.asdict(spec)) == spec
    assert RealEnvSpec.from_json(recorded_fields(plain.to_json())) == plain
    with pytest.raises(KeyError, match="crop"):
        RealEnvSpec.from_json({name: value for name, value in plain.to_json().items() if name != "crop"})


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (np.zeros(3), "kwargs.own is array"),
        (len, "kwargs.own is <built-in function len>"),
        ({"deep": [1, {2, 3}]}, r"kwargs.own.deep\[1\] is \{2, 3\} of type set"),
        ({3: "three"}, "kwargs.own has the key 3"),
        (float("nan"), "kwargs.own is not a number"),
    ],
)
def test_keyword_arguments_that_no_file_holds_are_refused_by_name(value: object, place: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Own-v0: {place}"):
        RealEnvSpec("Own-v0", {"own": value})
    with pytest.raises(ConfigurationError, match=f"wrapper own.Grey: {place}"):
        Wrapper("own.Grey", {"own": value})


def test_what_players_see_is_not_what_is_recorded() -> None:
    spec = RealEnvSpec("Own-v0", action_repeat=2)
    played = dataclasses.replace(
        spec, module="own", skip_unseen_frames="own", frames_per_second=9.0, controls={"1": Control("jump", 1)}
    )
    assert recorded_fields(played.to_json()) == recorded_fields(spec.to_json())
    assert recorded_fields(dataclasses.replace(spec, crop=(0, 1, 0, 1)).to_json()) != recorded_fields(spec.to_json())


@pytest.mark.parametrize(("rate", "repeat", "steps"), [(50.0, 4, 12), (35.0, 4, 9), (0.2, 1, 1), (None, 2, 25)])
def test_a_dream_is_stepped_as_fast_as_the_real_environment(rate: float | None, repeat: int, steps: int) -> None:
    assert RealEnvSpec("Own-v0", action_repeat=repeat, frames_per_second=rate).steps_per_second == steps
