"""From what is seen in reality to a memory state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dreamenv.errors import SpaceMismatchError
from tests.fakes import NoisyMemory, fake_world_model, trained_like_world_model


def test_observations_of_any_number_are_encoded_on_the_way_to_a_state() -> None:
    model = trained_like_world_model()
    frames = np.random.default_rng(0).integers(0, 256, (260, 64, 64, 3), dtype=np.uint8)
    frames.flags.writeable = False
    with torch.no_grad():
        expected = model.vision.encode(torch.from_numpy(frames.copy()))
    found = model.encode(frames)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)
    assert torch.equal(model.encode(torch.from_numpy(frames.copy())), found)
    assert model.encode(frames[:0]).shape == (0, model.vision.latent_size)
    for wrong in (frames[0], frames[:, :32]):
        with pytest.raises(SpaceMismatchError, match=r"expected \(B, 64, 64, 3\) of the model of CarRacing-v3"):
            model.encode(wrong)


def test_an_observation_that_is_written_to_later_stays_as_it_was_seen() -> None:
    model = fake_world_model()
    shown = np.zeros((2, 3), np.float32)
    state = model.begin(shown, noise=torch.Generator())
    shown += 1
    assert not state.latent.any()


def test_real_steps_are_those_of_the_memory() -> None:
    model = fake_world_model(NoisyMemory())
    seen = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    action = torch.tensor([1, 2, 3, 4])
    noise = torch.Generator().manual_seed(5)
    begun = model.begin(seen[0], noise=noise)
    found, said = model.observe(begun, action, seen[1], noise=noise)
    noise = torch.Generator().manual_seed(5)
    state = model.memory.initial(torch.from_numpy(seen[0]), noise=noise)
    expected, prediction = model.memory.observe(state, action, torch.from_numpy(seen[1]), noise=noise)
    assert all(map(torch.equal, begun, state))
    assert all(map(torch.equal, found, expected))
    assert torch.equal(said.reward, prediction.reward)
