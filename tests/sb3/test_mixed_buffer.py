"""What is in a mixed batch, and where branches begin and end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.typing import NDArray

pytest.importorskip("stable_baselines3")

from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.sb3 import Branches, BranchSchedule, MixedReplayBuffer
from dreamenv.sb3.branches import dream_branches, join
from tests.fakes import CountingMemory
from tests.memory.small_memory import seeded
from tests.sb3.line_env import MOVES, filled


def branches(count: int, value: float = -5.0) -> Branches:
    column = np.full((count, 1), value, np.float32)
    return Branches(column, column, column[:, 0], column, np.zeros(count, np.float32))


@pytest.mark.parametrize(("fraction", "real"), [(0.0, 0), (0.05, 3), (0.3, 19), (0.5, 32), (1.0, 64)])
def test_a_batch_holds_exactly_its_share_of_real_transitions(fraction: float, real: int) -> None:
    buffer = filled(9, real_fraction=fraction)
    assert (buffer.sample(64).observations >= 0).all(), "without branches everything is real"
    buffer.refill(branches(7))
    for _ in range(5):
        batch = buffer.sample(64)
        assert int((batch.observations >= 0).sum()) == real
        assert batch.observations.shape == batch.actions.shape == batch.dones.shape == batch.rewards.shape == (64, 1)


def test_real_transitions_keep_together_and_time_limits_are_no_ends() -> None:
    buffer = filled(6, real_fraction=1.0)
    batch = buffer.sample(500)
    x = batch.observations
    assert set(x.flatten().tolist()) == {10.0 * i + e for i in range(6) for e in range(2)}
    torch.testing.assert_close(batch.next_observations, x + 1)
    torch.testing.assert_close(batch.actions, x / 1000)
    ends = set(x[batch.dones > 0].tolist())
    assert ends == {20.0, 50.0, 51.0}, "step 2 of environment 1 was a time limit"
    treated = filled(6, real_fraction=1.0, handle_timeout_termination=False)
    batch = treated.sample(500)
    assert set(batch.observations[batch.dones > 0].tolist()) == {20.0, 21.0, 50.0, 51.0}
    for one in (buffer, treated):
        found = one.real_transitions()
        assert found.latents[:, 0].tolist() == [10.0 * i + e for i in range(6) for e in range(2)]
        assert found.latents[found.terminated, 0].tolist() == [20.0, 50.0, 51.0], "M is told what the task is"
        np.testing.assert_allclose(found.actions, 2 * found.latents / 1000, atol=1e-6)
        np.testing.assert_array_equal(found.next_latents, found.latents + 1)


def test_the_oldest_refill_goes_first() -> None:
    buffer = filled(3, real_fraction=0.0, retain=2)
    for value in (-1.0, -2.0, -3.0):
        buffer.refill(branches(5, value))
    assert buffer.dream_size == 10
    assert set(buffer.sample(200).observations.flatten().tolist()) == {-2.0, -3.0}


def test_old_real_transitions_are_overwritten() -> None:
    buffer = filled(130, real_fraction=1.0)
    assert buffer.real_size == 200
    assert len(buffer.real_transitions()) == 200
    assert set(buffer.sample(3000).observations.flatten().tolist()) == {
        10.0 * i + e for i in range(30, 130) for e in range(2)
    }


def test_the_schedule_of_branch_lengths() -> None:
    schedule = BranchSchedule(1, 5, 100, 300)
    assert [schedule.length(step) for step in (0, 100, 149, 150, 199, 200, 299, 300, 999)] == [
        1,
        1,
        1,
        2,
        2,
        3,
        4,
        5,
        5,
    ]
    assert [BranchSchedule(1, 3, 50, 50).length(step) for step in (49, 50)] == [1, 3]
    assert BranchSchedule().length(7) == 1
    for bad in ((0, 1), (3, 2), (1, 2, 9, 5), (1, 2, -1, 5)):
        with pytest.raises(ConfigurationError, match="first <= last"):
            BranchSchedule(*bad)


def choose_ones(seen: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    return np.ones((len(seen), 1), np.float32), np.full((len(seen), 1), 0.5, np.float32)


def test_branches_go_on_until_they_end() -> None:
    memory = CountingMemory(1, lifetime=3)  # ends at an age of 3, each action adds 1
    starts = memory.initial(torch.tensor([[0.0], [10.0]]), noise=seeded())._replace(age=torch.tensor([[0.0], [1.0]]))
    found = dream_branches(memory, starts, 5, choose_ones, observation="latent", noise=seeded())
    assert found.observations[:, 0].tolist() == [0, 10, 1, 11, 2]
    assert found.next_observations[:, 0].tolist() == [1, 11, 2, 12, 3]
    assert found.terminated.tolist() == [0, 0, 0, 1, 1]
    assert found.rewards.tolist() == [2, 3, 3, 4, 4]
    assert found.actions[:, 0].tolist() == [0.5] * 5, "as they are stored, not as M takes them"
    short = dream_branches(memory, starts, 1, choose_ones, observation="features", noise=seeded())
    assert short.terminated.tolist() == [0, 0], "a branch that is cut has not ended"
    assert short.observations.shape == (2, 3)
    assert len(join([found, found])) == 10
    broken = CountingMemory(1, broken_from=2)
    with pytest.raises(NonFiniteError, match="3 steps became NaN"):
        dream_branches(
            broken, starts._replace(age=starts.age * 0), 3, choose_ones, observation="latent", noise=seeded()
        )


def test_bad_input() -> None:
    for fraction in (-0.1, 1.5):
        with pytest.raises(ConfigurationError, match=r"real_fraction must be in \[0, 1\]"):
            filled(0, real_fraction=fraction)
    with pytest.raises(ConfigurationError, match="retain"):
        filled(0, retain=0)
    with pytest.raises(ConfigurationError, match="optimize_memory_usage"):
        filled(0, optimize_memory_usage=True)
    with pytest.raises(SpaceMismatchError, match="Box of one dimension"):
        MixedReplayBuffer(9, spaces.Box(0, 255, (8, 8, 3), np.uint8), MOVES)
    with pytest.raises(ConfigurationError, match="no real transitions"):
        filled(0).sample(4)
    with pytest.raises(ConfigurationError, match="attach"):
        filled(3).start_states(1, seeded())
