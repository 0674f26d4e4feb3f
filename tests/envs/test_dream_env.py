from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from dreamenv.envs import DreamEnv
from dreamenv.errors import ConfigurationError, InvalidActionError, NonFiniteError, StepError
from tests.fakes import BOX, DISCRETE, CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model


def play(env: gym.Env[Any, Any], steps: int, action: Any = 2) -> list[tuple[Any, ...]]:
    """Steps with a fixed action; a new episode where one ends."""
    rows = []
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(action)
        rows.append((observation.tolist(), reward, terminated, truncated, info))
        if terminated or truncated:
            observation, _ = env.reset()
            rows.append((observation.tolist(),))
    return rows


def test_a_counting_dream_is_exactly_as_predicted() -> None:
    env = DreamEnv(fake_world_model(CountingMemory(lifetime=3)))
    first, info = env.reset(seed=0)
    assert info == {}
    start = first[0]
    assert start in {0.0, 10.0, 20.0, 30.0, 40.0}
    assert first.tolist() == [start, start + 1, start + 2, 0, 0]
    for age in (1, 2, 3):
        observation, reward, terminated, truncated, info = env.step(2)
        assert observation.tolist() == [start + 2 * age, start + 1 + 2 * age, start + 2 + 2 * age, age, 0]
        assert reward == 2 + age
        assert terminated is (age == 3)
        assert truncated is False
        assert info == {"predicted_reward": 2.0 + age, "termination_probability": float(age == 3)}
        assert type(reward) is float
        assert observation.dtype == np.float32


def test_observations_share_no_memory() -> None:
    for kind in ("features", "latent"):
        env = DreamEnv(fake_world_model(), observation=kind)
        first, _ = env.reset(seed=0)
        kept = first.copy()
        second = env.step(1)[0]
        second += 100
        third = env.step(1)[0]
        assert np.array_equal(first, kept)
        assert third[0] == kept[0] + 2


@pytest.mark.parametrize("start", ["initial", "replay"])
def test_start_states(start: str) -> None:
    env = DreamEnv(fake_world_model(), start=start)
    seen = {tuple(env.reset(seed=seed)[0].tolist()) for seed in range(60)}
    if start == "initial":
        assert seen == {(10.0 * i, 10.0 * i + 1, 10.0 * i + 2, 0, 0) for i in range(5)}
    else:
        assert seen == {(-10.0 * i, -10.0 * i - 1, -10.0 * i - 2, 2, 0.25) for i in range(4)}


def test_same_seed_same_dream_other_seed_other() -> None:
    dreams = []
    for seed in (1, 1, 2):
        env = DreamEnv(fake_world_model(NoisyMemory()))
        env.reset(seed=seed)
        dreams.append(play(env, 80))
    assert dreams[0] == dreams[1]
    assert dreams[0] != dreams[2]
    assert any(len(row) == 1 for row in dreams[0])


def test_reset_without_seed_goes_on_and_a_new_env_is_new() -> None:
    env = DreamEnv(fake_world_model(NoisyMemory()))
    first, second = env.reset(seed=5)[0], env.reset()[0]
    assert not np.array_equal(first, second)
    other = DreamEnv(fake_world_model(NoisyMemory())).reset()[0]
    assert other[-1] != DreamEnv(fake_world_model(NoisyMemory())).reset()[0][-1]


def test_temperature_reaches_the_memory() -> None:
    steps = []
    for temperature in (1.0, 2.0):
        env = DreamEnv(fake_world_model(NoisyMemory()), temperature=temperature)
        start = env.reset(seed=0)[0]
        after = env.step(1)[0]
        steps.append(after[:3] - 0.5 * start[:3] - start[4] - 0.01)
    np.testing.assert_allclose(steps[1], 2 * steps[0], rtol=1e-4)


@pytest.mark.parametrize("action_space", [DISCRETE, BOX])
@pytest.mark.parametrize("kind", ["features", "latent", "pixels"])
def test_get_and_set_state_continue_bit_for_bit(kind: str, action_space: gym.Space[Any]) -> None:
    env = DreamEnv(fake_world_model(NoisyMemory(), image=True, action_space=action_space), observation=kind)
    action = 2 if action_space is DISCRETE else np.array([0.5, 1.0], np.float32)
    steps = 15 if kind == "pixels" else 100
    env.reset(seed=3)
    play(env, 30, action)
    snapshot = env.get_state()
    stored = pickle.dumps(snapshot)  # a snapshot is plain data
    expected = play(env, steps, action)
    env.set_state(snapshot)
    assert play(env, steps, action) == expected
    env.set_state(copy.deepcopy(snapshot))
    twin = env.clone()
    assert play(env, steps, action) == expected
    assert play(twin, steps, action) == expected
    fresh = DreamEnv(env.world_model, observation=kind)
    fresh.set_state(snapshot)
    assert play(fresh, steps, action) == expected
    assert pickle.dumps(snapshot) == stored


def test_a_snapshot_of_something_else_is_refused() -> None:
    env = DreamEnv(fake_world_model())
    with pytest.raises(StepError, match="before reset"):
        env.get_state()
    env.reset(seed=0)
    with pytest.raises(ConfigurationError, match="no snapshot of a DreamEnv: got int"):
        env.set_state(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="lacks"):
        env.set_state({"rollout": {}})
    damaged = {**env.get_state(), "generator": {"state": 3}}
    with pytest.raises(ConfigurationError, match="no state of a PCG64 generator"):
        env.set_state(damaged)
    with pytest.raises(ConfigurationError, match="is not known"):
        DreamEnv(fake_world_model(), start=np.zeros(3))  # type: ignore[arg-type]
    other = DreamEnv(trained_like_world_model(real=env.world_model.real))
    other.reset(seed=0)
    with pytest.raises(ConfigurationError, match="memory state"):
        env.set_state(other.get_state())


def test_stepping_out_of_order() -> None:
    env = DreamEnv(fake_world_model(CountingMemory(lifetime=1)))
    with pytest.raises(StepError, match="before reset"):
        env.step(1)
    env.reset(seed=0)
    env.step(1)
    with pytest.raises(StepError, match="terminated; call reset"):
        env.step(1)
    env.reset()
    env.step(1)


@pytest.mark.parametrize("action", [0, 5, 1.0, np.nan, None, [1], "left"])
def test_bad_actions_leave_the_dream_as_it_was(action: Any) -> None:
    env = DreamEnv(fake_world_model())
    start = env.reset(seed=0)[0]
    with pytest.raises(InvalidActionError, match="expected"):
        env.step(action)
    assert env.step(1)[0][0] == start[0] + 1


def test_a_dream_that_breaks_stops_loudly() -> None:
    env = DreamEnv(fake_world_model(CountingMemory(broken_from=2)))
    env.reset(seed=0)
    env.step(1)
    with pytest.raises(NonFiniteError, match=r"reward nan at step 2"):
        env.step(1)
    with pytest.raises(StepError):
        env.step(1)
    env.reset()
    env.step(1)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"observation": "feature"}, "Did you mean features"),
        ({"observation": "pixels"}, "needs an image environment"),
        ({"start": "middle"}, "is not known. Known: first, initial, replay"),
        ({"temperature": -0.1}, "at least 0"),
        ({"temperature": float("nan")}, "at least 0"),
        ({"temperature": "hot"}, "at least 0"),
        ({"render_mode": "rgb"}, "Did you mean rgb_array"),
        ({"termination": "never"}, "does not let it be chosen"),
        ({"termination": "cut"}, "CountingMemory does not let it be chosen"),
        ({"device": "gpu"}, "expected 'cpu', 'cuda'"),
    ],
)
def test_bad_keyword_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DreamEnv(fake_world_model(), **kwargs)


def test_replay_without_replay_states_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no replay start states"):
        DreamEnv(fake_world_model(replay=False), start="replay")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_no_silent_fall_back_to_the_cpu() -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        DreamEnv(fake_world_model(), device="cuda")


def test_termination_override_does_not_touch_the_shared_model() -> None:
    model = fake_world_model(NoisyMemory(death=0.4))
    cut = DreamEnv(model, termination="cut")
    cut.reset(seed=0)
    assert not any(cut.step(1)[2] for _ in range(50))
    assert model.memory.termination == "sample"
    assert cut.world_model.memory.latent_std is model.memory.latent_std


@pytest.mark.filterwarnings("ignore:.*does not have a spec:UserWarning")
@pytest.mark.parametrize("kind", ["features", "latent", "pixels"])
@pytest.mark.parametrize("memory", [CountingMemory(), NoisyMemory(), None])
def test_gymnasium_check_env(kind: str, memory: Any) -> None:
    model = trained_like_world_model() if memory is None else fake_world_model(memory, image=True)
    gymnasium_check_env(DreamEnv(model, observation=kind, render_mode="rgb_array"), skip_render_check=True)
