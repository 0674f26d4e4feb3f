"""The vector environment against Gymnasium's `SyncVectorEnv` over the scalar one, in the three autoreset modes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from dreamenv.envs import DreamEnv, DreamVectorEnv
from dreamenv.errors import ConfigurationError, InvalidActionError, NonFiniteError, StepError
from dreamenv.world_model import WorldModel
from tests.fakes import BOX, DISCRETE, CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model

ROWS = 4
MODES = list(AutoresetMode)


def assert_same(ours: Any, theirs: Any, where: str, tolerance: float) -> None:
    """Same structure, types, dtypes and values."""
    assert type(ours) is type(theirs), where
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), where
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{where}.{key}", tolerance)
    elif isinstance(theirs, tuple):
        assert len(ours) == len(theirs), where
        for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_same(mine, other, f"{where}({place})", tolerance)
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        if theirs.dtype == object:
            for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
                assert_same(mine, other, f"{where}[{place}]", tolerance)
        elif theirs.dtype.kind == "f" and tolerance:
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance, err_msg=where)
        else:
            np.testing.assert_array_equal(ours, theirs, err_msg=where)
    else:
        assert ours == theirs, where


def compare(model: WorldModel, mode: AutoresetMode, *, kind: str, steps: int, limit: int, tolerance: float) -> int:
    """Play both forms side by side and return how many episodes ended."""

    def scalar() -> gym.Env[Any, Any]:
        return TimeLimit(DreamEnv(model, observation=kind), limit)

    theirs = SyncVectorEnv([scalar] * ROWS, autoreset_mode=mode)
    ours = DreamVectorEnv(model, ROWS, autoreset_mode=mode, max_episode_steps=limit, observation=kind)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.metadata["autoreset_mode"] is ours.autoreset_mode is theirs.metadata["autoreset_mode"]
    theirs.action_space.seed(0)
    assert_same(ours.reset(seed=7), theirs.reset(seed=7), "reset", tolerance)
    endings = 0
    for step in range(steps):
        actions = theirs.action_space.sample()
        expected = theirs.step(actions)
        assert_same(ours.step(actions), expected, f"step {step}", tolerance)
        ended = expected[2] | expected[3]
        endings += int(ended.sum())
        if mode == AutoresetMode.DISABLED and ended.any():
            options = {"reset_mask": ended}
            assert_same(ours.reset(options=options), theirs.reset(options=dict(options)), f"reset {step}", tolerance)
            assert set(options) == {"reset_mask"}
    assert_same(ours.reset(seed=[3, None, 3, 9]), theirs.reset(seed=[3, None, 3, 9]), "reset with a list", tolerance)
    assert_same(ours.reset(), theirs.reset(), "reset without seed", tolerance)
    assert ours.np_random_seed == theirs.np_random_seed
    return endings


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("action_space", [DISCRETE, BOX])
@pytest.mark.parametrize("kind", ["features", "latent"])
def test_parity_with_sync_vector_env(mode: AutoresetMode, action_space: gym.Space[Any], kind: str) -> None:
    model = fake_world_model(NoisyMemory(death=0.05), action_space=action_space)
    assert compare(model, mode, kind=kind, steps=150, limit=11, tolerance=0) > 20


@pytest.mark.parametrize("mode", MODES)
def test_parity_where_termination_and_truncation_coincide(mode: AutoresetMode) -> None:
    model = fake_world_model(CountingMemory(lifetime=5))
    assert compare(model, mode, kind="features", steps=30, limit=5, tolerance=0) >= ROWS * 5


@pytest.mark.parametrize("mode", MODES)
def test_parity_with_a_real_memory_and_pixels(mode: AutoresetMode) -> None:
    # A batched matrix product rounds otherwise than that of one row: hence the tolerance.
    assert compare(trained_like_world_model(), mode, kind="features", steps=40, limit=9, tolerance=1e-4) > ROWS
    compare(fake_world_model(NoisyMemory(), image=True), mode, kind="latent", steps=20, limit=9, tolerance=0)


def test_pixels_are_the_decoded_latents_of_all_rows() -> None:
    model = fake_world_model(NoisyMemory(), image=True)
    pixels, latents = (DreamVectorEnv(model, 300, observation=kind) for kind in ("pixels", "latent"))
    pictures, latent = pixels.reset(seed=0)[0], latents.reset(seed=0)[0]
    assert pictures.shape == (300, 64, 64, 3)
    assert pictures.dtype == np.uint8
    with torch.no_grad():
        expected = model.vision.decode_uint8(torch.from_numpy(latent)).numpy()
    assert np.abs(pictures.astype(int) - expected).max() <= 1


def test_rows_do_not_depend_on_their_number() -> None:
    model = fake_world_model(NoisyMemory())
    few, many = DreamVectorEnv(model, 2), DreamVectorEnv(model, 9)
    assert np.array_equal(few.reset(seed=4)[0], many.reset(seed=4)[0][:2])
    for _ in range(100):
        assert np.array_equal(few.step(np.full(2, 3))[0], many.step(np.full(9, 3))[0][:2])


def test_next_step_ignores_the_action_after_an_end() -> None:
    env = DreamVectorEnv(fake_world_model(CountingMemory(lifetime=1), action_space=BOX), 2)
    env.reset(seed=0)
    assert env.step(np.ones((2, 2), np.float32))[2].all()
    observations, rewards, terminated, truncated, infos = env.step(np.full((2, 2), np.nan, np.float32))
    assert observations[:, 3].tolist() == [0, 0]
    assert rewards.tolist() == [0, 0]
    assert not (terminated | truncated).any()
    assert infos == {}
    with pytest.raises(InvalidActionError):
        env.step(np.full((2, 2), np.nan, np.float32))


def test_same_step_returns_the_last_reward_and_the_last_observation() -> None:
    env = DreamVectorEnv(fake_world_model(CountingMemory(lifetime=2)), 2, autoreset_mode="SameStep")
    start = env.reset(seed=0)[0]
    env.step([1, 2])
    observations, rewards, terminated, _, infos = env.step([1, 2])
    assert rewards.tolist() == [3, 4]
    assert terminated.all()
    assert [row.tolist()[0] for row in infos["final_obs"]] == [start[0, 0] + 2, start[1, 0] + 4]
    assert infos["final_info"]["predicted_reward"].tolist() == [3, 4]
    assert observations[:, 3].tolist() == [0, 0]


def test_disabled_refuses_to_step_what_has_ended() -> None:
    env = DreamVectorEnv(fake_world_model(CountingMemory(lifetime=1)), 3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    env.step([1, 1, 1])
    with pytest.raises(StepError, match=r"\[0, 1, 2\] have ended"):
        env.step([1, 1, 1])
    env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(StepError, match=r"\[1\] have ended"):
        env.step([1, 1, 1])
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step([1, 1, 1])


@pytest.mark.parametrize("mode", MODES)
def test_get_and_set_state_continue_bit_for_bit(mode: AutoresetMode) -> None:
    env = DreamVectorEnv(fake_world_model(NoisyMemory()), ROWS, autoreset_mode=mode, max_episode_steps=9)

    def play(env: DreamVectorEnv, steps: int) -> list[Any]:
        rows = []
        for _ in range(steps):
            observations, rewards, terminated, truncated, infos = env.step(np.full(ROWS, 3))
            rows.append((observations.tolist(), rewards.tolist(), terminated.tolist(), truncated.tolist(), str(infos)))
            if mode == AutoresetMode.DISABLED and (terminated | truncated).any():
                rows.append(env.reset(options={"reset_mask": terminated | truncated})[0].tolist())
        return rows

    env.reset(seed=0)
    # Somewhere along the way a row stands between its end and its reset.
    for steps in (1, 3, 4, 20):
        play(env, steps)
        snapshot = env.get_state()
        stored = pickle.dumps(snapshot)
        expected = play(env, 80)
        env.set_state(copy.deepcopy(snapshot))
        twin = env.clone()
        assert play(env, 80) == expected
        assert play(twin, 80) == expected
        assert pickle.dumps(snapshot) == stored
        env.set_state(snapshot)


def test_snapshots_of_another_form_are_refused() -> None:
    model = fake_world_model()
    env, scalar = DreamVectorEnv(model, 2), DreamEnv(model)
    env.reset(seed=0)
    scalar.reset(seed=0)
    with pytest.raises(ConfigurationError, match="no snapshot of a DreamVectorEnv: got int"):
        env.set_state(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="lacks generators, seeds"):
        env.set_state(scalar.get_state())
    wider = DreamVectorEnv(model, 3)
    wider.reset(seed=0)
    with pytest.raises(ConfigurationError, match="of 3 dreams, expected 2"):
        env.set_state(wider.get_state())
    env.step([1, 2])
    expected = env.clone()
    for part, value, message in (
        ("ended", np.zeros(3, np.bool_), "ended are of 3 dreams, expected 2"),
        ("seeds", [1], "seeds are of 1 dreams, expected 2"),
        ("generators", [1, 2], "no state of a PCG64 generator, but 1"),
    ):
        other = DreamVectorEnv(model, 2)
        other.reset(seed=5)
        with pytest.raises(ConfigurationError, match=message):
            env.set_state({**other.get_state(), part: value})
    assert np.array_equal(env.step([2, 1])[0], expected.step([2, 1])[0]), "nothing of a damaged snapshot is taken"


def test_observations_and_rewards_share_no_memory_with_later_ones() -> None:
    env = DreamVectorEnv(fake_world_model(), 2, observation="latent", autoreset_mode="SameStep", max_episode_steps=2)
    first = env.reset(seed=0)[0]
    results = [env.step([1, 1]) for _ in range(5)]
    for observations, rewards, *_ in results:
        rewards += 1
        observations += 1000
    assert (first < 100).all()
    assert (env.step([1, 1])[0] < 100).all()


@pytest.mark.parametrize("mode", AutoresetMode)
def test_an_autoreset_mode_is_known_by_value_and_by_name(mode: AutoresetMode) -> None:
    for given in (mode, mode.value, mode.name):
        assert DreamVectorEnv(fake_world_model(CountingMemory()), 2, autoreset_mode=given).autoreset_mode is mode


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "at least 1, got 0"),
        ({"num_envs": 2.0}, "got 2.0"),
        ({"max_episode_steps": 0}, "at least 1, got 0"),
        ({"autoreset_mode": "SameSteps"}, "Did you mean SameStep"),
        ({"observation": "states"}, "not known"),
    ],
)
def test_bad_keyword_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DreamVectorEnv(fake_world_model(), **kwargs)


@pytest.mark.parametrize(
    ("mask", "shown"),
    [([True, True], "list"), (np.ones(2), "float64"), (np.ones(3, bool), r"\(3,\)"), (np.zeros(2, bool), "one True")],
)
def test_bad_reset_masks(mask: Any, shown: str) -> None:
    env = DreamVectorEnv(fake_world_model(), 2)
    env.reset(seed=0)
    with pytest.raises(ConfigurationError, match=shown):
        env.reset(options={"reset_mask": mask})


def test_out_of_order_and_other_bad_calls() -> None:
    env = DreamVectorEnv(fake_world_model(CountingMemory(broken_from=2)), 2)
    with pytest.raises(StepError, match="before reset"):
        env.step([1, 1])
    with pytest.raises(StepError, match="reset all first"):
        env.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ConfigurationError, match="got 3 seeds, expected one for each of 2"):
        env.reset(seed=[1, 2, 3])
    for seed in (1.5, "ab", [1, "b"]):
        with pytest.raises(ConfigurationError, match="seed must be None, an int, or an int or None for each dream"):
            env.reset(seed=seed)  # type: ignore[arg-type]
    env.reset(seed=np.int64(3))  # type: ignore[arg-type]
    with pytest.raises(InvalidActionError, match=r"shape \(3,\)"):
        env.step([1, 1, 1])
    env.step([1, 1])
    with pytest.raises(NonFiniteError, match="dream 0 has reward nan"):
        env.step([1, 1])


class Dissolving(CountingMemory):
    """Its rewards stay as they are while its latents are no numbers any more."""

    def features(self, state: Any) -> torch.Tensor:
        seen = super().features(state)
        return torch.where(state.age >= 2, torch.nan, seen)


def test_latents_that_are_no_numbers_are_not_handed_out() -> None:
    for env, action in (
        (DreamVectorEnv(fake_world_model(Dissolving()), 2), [1, 1]),
        (DreamEnv(fake_world_model(Dissolving())), 1),
    ):
        env.reset()
        env.step(action)
        with pytest.raises(NonFiniteError, match="the dream's features are NaN or infinite. Reset"):
            env.step(action)
        with pytest.raises(StepError, match="before reset"):
            env.step(action)
        env.reset()


def test_the_temperature_of_a_dream_may_be_changed() -> None:
    model = trained_like_world_model(image=False)
    env, other = (DreamVectorEnv(model, 4, temperature=value) for value in (1.0, 0.0))
    for dreams in (env, other):
        dreams.reset(seed=5)
    env.temperature = 0.0
    assert env.temperature == 0.0
    actions = env.action_space.sample()
    np.testing.assert_array_equal(env.step(actions)[0], other.step(actions)[0])
    other.temperature = 2.0
    assert not np.array_equal(env.step(actions)[0], other.step(actions)[0])
    scalar = DreamEnv(model)
    scalar.temperature = 0.5
    assert scalar.rollout.temperature == 0.5
    scalar.temperature = None
    assert scalar.temperature == model.temperature
    for bad in (-1.0, np.nan, "hot", True):
        with pytest.raises(ConfigurationError, match="temperature must be a finite number of at least 0"):
            scalar.temperature = bad  # type: ignore[assignment]


def test_the_time_limit_is_the_models_unless_given() -> None:
    for limit, expected in ((None, 7), (3, 3)):
        env = DreamVectorEnv(fake_world_model(), 2, max_episode_steps=limit)
        env.reset(seed=0)
        flags = [env.step([1, 1])[3].tolist() for _ in range(expected + 1)]
        assert flags == [[False, False]] * (expected - 1) + [[True, True]] + [[False, False]]
