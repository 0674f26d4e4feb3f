"""The RSSM's fast steps against the plain one: equal up to rounding, from any state, and after every change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamenv.memory.base import Prediction
from dreamenv.memory.rssm.fast.batched import BatchedStepper
from dreamenv.memory.rssm.fast.single import SingleStepper
from dreamenv.memory.rssm.model import RSSM, RSSMState
from dreamenv.noise.hashed import BLOCK_STEPS, EpisodeNoise
from tests.memory.rssm.test_model import small
from tests.memory.small_memory import SPACES, actions, seeded

OPTIONS: list[dict[str, Any]] = [
    {"uniform_mix": 0.1},
    {"uniform_mix": 0.0, "reward_head": "mse", "termination": "cut", "termination_weight": 3.0},
    {"kind": "gaussian", "termination_weight": 3.0},
]


def begun(memory: RSSM, rows: int) -> RSSMState:
    with torch.no_grad():
        return memory.initial(torch.randn(rows, 4, generator=seeded(2)), noise=seeded())


def assert_same(found: tuple[RSSMState, Prediction], expected: tuple[RSSMState, Prediction]) -> None:
    (state, said), (plain, also) = found, expected
    for part, its in zip(state, plain, strict=True):
        torch.testing.assert_close(part, its, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(said.reward, also.reward, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(said.termination_probability, also.termination_probability, rtol=1e-3, atol=1e-5)
    assert torch.equal(said.terminated, also.terminated)


@pytest.mark.parametrize("rows", [1, 70])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("options", OPTIONS)
def test_it_is_the_plain_step(options: dict[str, Any], space: str, rows: int) -> None:
    memory = small(space, **options)
    fast = memory.stepper(rows)
    assert type(fast) is (SingleStepper if rows == 1 else BatchedStepper)
    for temperature in (1.0, 0.5, 0.0):
        state = begun(memory, rows)
        for step in range(4):
            action = actions(space, rows)
            plain, ours = (
                take(state, action, noise=seeded(step), temperature=temperature) for take in (memory.imagine, fast)
            )
            assert_same(ours, plain)
            state = ours[0]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("space", SPACES)
def test_states_that_are_not_one_hot_are_multiplied(space: str, rows: int) -> None:
    """Before any observation z is 0, and callers may relax it; rows of tables would be those of other states."""
    memory = small(space)
    relaxed = torch.rand(rows, 12, generator=seeded(3))
    twice = torch.tensor([2.0, -1.0, 0.0, 0.0] * 3).expand(rows, -1)  # sums to 1 and is no class
    for stochastic in (torch.zeros(rows, 12), relaxed, relaxed / 2, twice):
        state = RSSMState(begun(memory, rows).hidden, stochastic)
        action = actions(space, rows)
        assert_same(
            memory.stepper(rows)(state, action, noise=seeded(4)), memory.imagine(state, action, noise=seeded(4))
        )


@pytest.mark.parametrize("rows", [1, 3])
def test_an_action_may_be_a_relaxed_one_hot(rows: int) -> None:
    memory = small("discrete")
    state, action = begun(memory, rows), torch.rand(rows, 4, generator=seeded(3))
    assert_same(memory.stepper(rows)(state, action, noise=seeded(4)), memory.imagine(state, action, noise=seeded(4)))


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
@pytest.mark.parametrize("space", SPACES)
def test_a_row_without_tensors_is_stepped_alike(space: str, kind: str) -> None:
    memory = small(space, kind)
    single = memory.stepper(1)
    state = begun(memory, 1)
    dreams = single.enter(state)
    noises = [EpisodeNoise(1), EpisodeNoise(1)]
    for noise in noises:
        noise.begin_episodes(np.zeros(1, np.int64), np.array([7], np.uint64))
    for step in range(BLOCK_STEPS + 3):  # into a second block of random numbers
        if step == 5:  # new weights are taken over
            with torch.no_grad():
                memory.prior_network[1].weight.mul_(0.5)
                memory.enter[0].weight.mul_(0.5)  # type: ignore[operator]
        for noise in noises:
            noise.begin_step()
        action = actions(space, 1)
        with torch.no_grad():
            state, said = memory.imagine(state, action, noise=noises[0], temperature=0.7)
        dreams, outcome = single.advance(dreams, action.numpy(), noise=noises[1], temperature=0.7)
        for noise in noises:
            noise.end_step()
        np.testing.assert_allclose(single.features(dreams), memory.features(state).numpy(), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(outcome.reward, said.reward.numpy(), rtol=1e-3, atol=1e-3)
        assert outcome.terminated == said.terminated.numpy()


SETTINGS = ("action_encoder", "posterior_network", "latent_std")  # a dreamed step reads the first as settings alone
NAMES = [
    name
    for name in (*dict(small().named_parameters()), *dict(small().named_buffers()))
    if not name.startswith(SETTINGS)
]


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_every_tensor_of_the_model(name: str) -> None:
    memory = small(kind="gaussian" if name.startswith("prior") else "categorical")  # classes may stay what they were
    tensor = {**dict(memory.named_parameters()), **dict(memory.named_buffers())}[name]
    for rows in (1, 3):
        stepper, state, action = memory.stepper(rows), begun(memory, rows), actions("box", rows)
        before = stepper(state, action, noise=seeded(4))
        with torch.no_grad():
            tensor.add_(0.5 * torch.randn(tensor.shape, generator=seeded(8)).abs() + 0.1)
        after = stepper(state, action, noise=seeded(4))
        figures: list[list[Tensor]] = [
            [*found, said.reward, said.termination_probability] for found, said in (before, after)
        ]
        assert any(not torch.allclose(old, new, atol=1e-5) for old, new in zip(*figures, strict=True))
        assert_same(after, memory.imagine(state, action, noise=seeded(4)))


@pytest.mark.parametrize("rows", [1, 5])
def test_a_state_may_be_stepped_more_than_once(rows: int) -> None:
    memory = small()
    fast = memory.stepper(rows)
    state, _ = fast(begun(memory, rows), actions("box", rows), noise=seeded(1))
    before = [part.clone() for part in state]
    first, _ = fast(state, actions("box", rows), noise=seeded(9))
    fast(state, -actions("box", rows), noise=seeded(8))
    again, _ = fast(state, actions("box", rows), noise=seeded(9))
    assert all(torch.equal(part, kept) for part, kept in zip(state, before, strict=True))
    assert all(torch.equal(part, same) for part, same in zip(first, again, strict=True))


def test_it_works_within_inference_mode_and_outside_in_turn() -> None:
    memory = small()
    fast, state, action = memory.stepper(7), begun(memory, 7), actions("box", 7)
    outside, _ = fast(state, action, noise=seeded(3))
    with torch.inference_mode():
        inside, _ = fast(state, action, noise=seeded(3))
        fast(outside, action, noise=seeded(3))
    fast(inside, action, noise=seeded(3))
    assert torch.equal(inside.hidden, outside.hidden)
