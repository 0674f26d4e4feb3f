"""The table of Dyna-Q: what it counted is what it dreams."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.bundle import StartStates
from dreamenv.envs import DreamEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.memory.tabular import TabularMemory, TabularState
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.fakes import BOX
from tests.memory.small_memory import seeded

MOVES = spaces.Discrete(2, start=1)


def table() -> TabularMemory:
    """From state 0, action 1 leads to 1 three times of four (reward 2) and to 2 else, where the half of the ends is."""
    memory = TabularMemory(4, MOVES)
    for _ in range(3):
        memory.count(0, 1, 2.0, 1, False)
    memory.count(0, 1, -3.0, 2, True)
    memory.count(0, 2, 1.0, 2, True)
    memory.count(0, 2, 4.0, 2, False)
    return memory


def test_dreams_follow_the_counts() -> None:
    memory, rows = table(), 4000
    state = TabularState(torch.zeros(rows, dtype=torch.int64))
    followed, prediction = memory.imagine(state, torch.ones(rows, dtype=torch.int64), noise=seeded())
    shares = followed.place.bincount(minlength=4) / rows
    torch.testing.assert_close(shares, torch.tensor([0.0, 0.75, 0.25, 0.0]), atol=0.03, rtol=0)
    assert set(zip(followed.place.tolist(), prediction.reward.tolist(), strict=True)) == {(1, 2.0), (2, -3.0)}
    assert torch.equal(prediction.terminated, followed.place == 2)
    followed, prediction = memory.imagine(state, torch.full((rows,), 2), noise=seeded())
    assert set(prediction.reward.tolist()) == {2.5}
    assert set(prediction.termination_probability.tolist()) == {0.5}
    assert prediction.terminated.float().mean() == pytest.approx(0.5, abs=0.03)


def test_actions_may_come_one_hot_as_an_actor_critic_gives_them() -> None:
    memory = table()
    state, numbers = TabularState(torch.zeros(8, dtype=torch.int64)), torch.tensor([1, 2] * 4)
    one_hot = torch.nn.functional.one_hot(numbers - 1, 2).float()
    (place, expected), (other, found) = (memory.imagine(state, a, noise=seeded()) for a in (numbers, one_hot))
    assert torch.equal(place.place, other.place)
    assert torch.equal(expected.reward, found.reward)
    assert torch.equal(expected.terminated, found.terminated)


def test_temperature_sharpens() -> None:
    memory, rows = table(), 4000
    state, action = TabularState(torch.zeros(rows, dtype=torch.int64)), torch.ones(rows, dtype=torch.int64)
    cold, _ = memory.imagine(state, action, noise=seeded(), temperature=0.01)
    assert set(cold.place.tolist()) == {1}
    hot, _ = memory.imagine(state, action, noise=seeded(), temperature=1e6)
    assert (hot.place == 1).float().mean() == pytest.approx(0.5, abs=0.03)


def test_what_was_never_tried_stays_where_it_is() -> None:
    memory = table()
    assert memory.tried().tolist() == [[True, True]] + [[False, False]] * 3
    state = TabularState(torch.tensor([3, 1]))
    followed, prediction = memory.imagine(state, torch.tensor([1, 2]), noise=seeded())
    assert followed.place.tolist() == [3, 1]
    assert prediction.reward.tolist() == [0, 0]
    assert not prediction.terminated.any()


def test_a_real_step_is_predicted_before_it_is_seen() -> None:
    memory = table()
    state = memory.initial(torch.eye(4)[[0, 0]], noise=seeded())
    followed, prediction = memory.observe(state, torch.tensor([1, 1]), torch.eye(4)[[2, 1]], noise=seeded())
    assert followed.place.tolist() == [2, 1]
    assert prediction.reward.tolist() == [-3, 2]
    assert prediction.termination_probability.tolist() == [1, 0]
    assert torch.equal(memory.latent(followed), torch.eye(4)[[2, 1]])


def test_the_loss_is_the_likelihood_of_the_counts() -> None:
    latents = torch.eye(4)[torch.tensor([[0, 1], [0, 2]])]
    ones = torch.ones(2, 1)
    batch = SequenceBatch(latents, latents[:, 1:], torch.ones(2, 1, dtype=torch.int64), ones, 0 * ones, ones, ones)
    assert float(table().loss(batch)["loss"]) == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)


def test_it_dreams_behind_the_environment_and_is_saved_as_counted(tmp_path: Path) -> None:
    model = WorldModel(
        IdentityVision(4), table(), RealEnvSpec("Own-v0"), MOVES, StartStates(torch.eye(4)[:1]), max_episode_steps=5
    )
    model.save(tmp_path)
    loaded = WorldModel.load(tmp_path)
    assert torch.equal(loaded.memory.counts, model.memory.counts)
    assert torch.equal(loaded.memory.ends, model.memory.ends)
    env = DreamEnv(loaded)
    observation, _ = env.reset(seed=1)
    assert observation.tolist() == [1, 0, 0, 0]
    observation, reward, terminated, _, _ = env.step(1)
    assert (observation.argmax(), reward, terminated) in {(1, 2.0, False), (2, -3.0, True)}


def test_bad_options() -> None:
    with pytest.raises(ConfigurationError, match="at least 1 state"):
        TabularMemory(0, MOVES)
    with pytest.raises(ConfigurationError, match="Discrete actions"):
        TabularMemory(3, BOX)
