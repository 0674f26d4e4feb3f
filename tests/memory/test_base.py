"""What every memory model shares: action inputs, noise, and moving rows of states about."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.errors import ConfigurationError
from dreamenv.memory.actions import ActionEncoder
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.memory.states import flatten_state, merge, repeat, select, unflatten_state
from dreamenv.noise.base import GeneratorNoise, as_noise
from tests.fakes import BOX, DISCRETE, CountingMemory, FakeState


def state() -> FakeState:
    return FakeState(torch.arange(8.0).reshape(4, 2), torch.arange(4.0).unsqueeze(1), torch.ones(4, 1))


def test_box_actions_are_scaled_to_the_bounds() -> None:
    encoder = ActionEncoder(BOX)
    assert (encoder.size, encoder.discrete) == (2, False)
    actions = torch.tensor([[-1.0, 0.0], [1.0, 2.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    encoded = encoder(actions)
    assert encoded.dtype == torch.float32
    assert encoded.tolist() == [[-1, -1], [1, 1], [0, 0]]
    encoded.sum().backward()
    assert actions.grad is not None
    assert actions.grad.tolist() == [[1, 1]] * 3
    assert encoder(torch.zeros(5, 7, 2)).shape == (5, 7, 2)


def test_unbounded_actions_pass_unscaled() -> None:
    space = spaces.Box(np.array([-np.inf, -2.0], np.float32), np.array([np.inf, 2.0], np.float32))
    assert ActionEncoder(space)(torch.tensor([[30.0, 1.0]])).tolist() == [[30.0, 0.5]]


def test_discrete_actions_become_one_hot_from_their_start() -> None:
    encoder = ActionEncoder(DISCRETE)
    assert encoder(torch.tensor([1, 4])).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert encoder(torch.tensor([[1, 2, 3]], dtype=torch.int32)).shape == (1, 3, 4)
    relaxed = torch.tensor([[0.1, 0.2, 0.3, 0.4]], requires_grad=True)
    assert encoder(relaxed) is relaxed


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 2]), spaces.Box(-1, 1, (2, 2)), spaces.Dict()])
def test_other_action_spaces_are_refused(space: Any) -> None:
    with pytest.raises(ConfigurationError, match="Discrete or one-dimensional Box actions"):
        ActionEncoder(space)


def test_the_encoder_adds_nothing_to_the_weights() -> None:
    assert not ActionEncoder(BOX).state_dict()


def test_noise_comes_from_the_generator_alone() -> None:
    noise = as_noise(torch.Generator().manual_seed(1))
    assert isinstance(noise, GeneratorNoise)
    assert as_noise(noise) is noise
    before = torch.get_rng_state()
    uniform, normal = noise.uniform(500, 20), noise.normal(500, 20)
    assert torch.equal(torch.get_rng_state(), before)
    assert uniform.shape == normal.shape == (500, 20)
    assert 0 <= uniform.min() < 0.01
    assert 0.99 < uniform.max() < 1
    assert abs(normal.mean()) < 0.05
    assert abs(normal.std() - 1) < 0.05
    again = GeneratorNoise(torch.Generator().manual_seed(1))
    assert torch.equal(again.uniform(500, 20), uniform)
    assert torch.equal(again.normal(500, 20), normal)


def test_select_takes_rows() -> None:
    for index in (torch.tensor([2, 0]), torch.tensor([True, False, True, False])):
        found = select(state(), index)
        assert isinstance(found, FakeState)
        assert sorted(found.age.flatten().tolist()) == [0, 2]
    assert select(state(), torch.tensor([2, 0])).latent.tolist() == [[4, 5], [0, 1]]


def test_merge_replaces_rows_of_a_copy() -> None:
    old = state()
    rows = FakeState(torch.full((2, 2), -1.0), torch.full((2, 1), -1.0, dtype=torch.float64), torch.zeros(2, 1))
    found = merge(old, torch.tensor([1, 3]), rows)
    assert found.latent.tolist() == [[0, 1], [-1, -1], [4, 5], [-1, -1]]
    assert found.age.flatten().tolist() == [0, -1, 2, -1]
    assert found.age.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(old, state(), strict=True))


def test_repeat_keeps_the_copies_of_a_row_together() -> None:
    assert repeat(state(), 2).age.flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_states_are_rebuilt_from_tensors() -> None:
    memory = CountingMemory(2)
    found = memory.state_from_tensors(state()._asdict())
    assert isinstance(found, FakeState)
    assert torch.equal(found.latent, state().latent)
    with pytest.raises(TypeError):
        memory.state_from_tensors({"latent": torch.zeros(1, 2)})


def test_a_batch_moves_as_a_whole() -> None:
    parts = [torch.zeros(1, 2, 3) for _ in range(7)]
    moved = SequenceBatch(*parts).to("meta")
    assert {part.device.type for part in vars(moved).values()} == {"meta"}


class CountedState(NamedTuple):
    """Fields of every form: `[B, 2, 3]`, `[B]` int64, and one without columns."""

    block: torch.Tensor
    member: torch.Tensor
    nothing: torch.Tensor


def test_a_state_becomes_vectors_and_back() -> None:
    full = CountedState(torch.arange(24.0).reshape(4, 2, 3), torch.tensor([3, 1, 2, 0]), torch.ones(4, 0))
    vectors = flatten_state(full)
    assert vectors.shape == (4, 7)
    assert vectors.dtype == torch.float32
    assert vectors[1].tolist() == [6, 7, 8, 9, 10, 11, 1]
    back = unflatten_state(select(full, torch.tensor([0])), vectors[[2, 1]])
    assert isinstance(back, CountedState)
    assert back.member.dtype == torch.int64
    for part, own in zip(back, full, strict=True):
        assert torch.equal(part, own[[2, 1]])
    with pytest.raises(ConfigurationError, match=r"got states of shape \(4, 6\), expected \(B, 7\)"):
        unflatten_state(full, vectors[:, :6])
