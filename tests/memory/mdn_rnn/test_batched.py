"""The fused step against the plain one: equal up to rounding in float32, in distribution in bfloat16."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import Prediction
from dreamenv.memory.mdn_rnn.fast.batched import _GROUPED_ROWS, FusedStep
from dreamenv.memory.mdn_rnn.model import MDNRNN, MDNRNNState
from dreamenv.memory.states import select
from dreamenv.noise.episodes import BLOCK_STEPS, EpisodeNoise
from tests.fakes import CountingMemory
from tests.memory.small_memory import actions, seeded, small

ROWS = (1, 7, _GROUPED_ROWS + 3)


def dreamed(
    imagine: Any, memory: MDNRNN, space: str, rows: int, steps: int = 5, temperature: float = 1.0
) -> list[tuple[MDNRNNState, Prediction]]:
    state = memory.initial(torch.randn(rows, memory.latent_size, generator=seeded(2)), noise=seeded())
    found = []
    for step in range(steps):
        action = actions(space, rows)
        with torch.no_grad():
            state, prediction = imagine(state, action, noise=seeded(step), temperature=temperature)
        found.append((state, prediction))
    return found


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize(
    "options",
    [
        {"components": "joint"},
        {"components": "per_dimension", "termination": "cut"},
        {"components": "joint", "reward_head": "mse", "reward_sees_next": True, "termination_weight": 3.0},
        {"components": "per_dimension", "reward_sees_next": True, "cell_features": True, "mixtures": 1},
    ],
)
def test_it_is_the_plain_step(options: dict[str, Any], space: str, rows: int) -> None:
    memory = small(space, **options)
    fused = memory.without_gradient()
    assert isinstance(fused, FusedStep)
    other_ends = 0
    for temperature in (1.0, 0.5):
        plain = dreamed(memory.imagine, memory, space, rows, temperature=temperature)
        ours = dreamed(fused, memory, space, rows, temperature=temperature)
        for (state, said), (other, also) in zip(plain, ours, strict=True):
            for part, its in zip(state, other, strict=True):
                torch.testing.assert_close(its, part, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(also.reward, said.reward, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(also.termination_probability, said.termination_probability, rtol=1e-3, atol=1e-5)
            assert also.reward.shape == also.terminated.shape == (rows,)
            other_ends += int((also.terminated != said.terminated).sum())
            torch.testing.assert_close(memory.features(other), memory.features(state), rtol=1e-4, atol=1e-4)
    # among thousands of uniform numbers one may fall between two roundings of a probability
    assert other_ends <= rows // 100


@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize("cell_features", [False, True])
def test_a_row_without_tensors_is_stepped_alike(space: str, cell_features: bool) -> None:
    memory = small(space, components="joint", cell_features=cell_features)
    steps, fused = memory.row_steps(), memory.without_gradient()
    assert steps is not None
    state = memory.initial(torch.randn(1, memory.latent_size, generator=seeded(2)), noise=seeded())
    row = steps.row_of(state)
    noises = [EpisodeNoise(1), EpisodeNoise(1)]
    for noise in noises:
        noise.begin_episodes(np.zeros(1, np.int64), np.array([7], np.uint64))
    for step in range(BLOCK_STEPS + 3):  # into a second block of random numbers
        if step == 5:  # new weights are taken over
            with torch.no_grad():
                memory.mixture_head.weight.mul_(0.5)
        for noise in noises:
            noise.begin_step()
        action = actions(space, 1)
        state, said = fused(state, action, noise=noises[0], temperature=0.7)
        row, reward, probability, terminated = steps.step_row(row, action.numpy()[0], noise=noises[1], temperature=0.7)
        for noise in noises:
            noise.end_step()
        for part, its in zip(state, steps.state_of(row), strict=True):
            torch.testing.assert_close(its, part, rtol=0, atol=0)
        np.testing.assert_array_equal(steps.features_of(row), memory.features(state)[0].numpy())
        assert (reward, terminated) == (float(said.reward[0]), bool(said.terminated[0]))
        assert probability == pytest.approx(float(said.termination_probability[0]), rel=1e-6)


def test_no_rows_without_tensors_where_the_step_is_another() -> None:
    assert small("box", width=8).row_steps() is None
    assert CountingMemory().row_steps() is None


@pytest.mark.parametrize("rows", ROWS)
def test_a_state_may_be_stepped_more_than_once(rows: int) -> None:
    """Planners branch: a step leaves the state it came from as it was."""
    memory = small(components="joint")
    fused = memory.without_gradient()
    state, _ = dreamed(fused, memory, "box", rows, steps=2)[-1]
    before = [part.clone() for part in state]
    action = actions("box", rows)
    first, _ = fused(state, action, noise=seeded(9))
    fused(state, -action, noise=seeded(8))
    again, _ = fused(state, action, noise=seeded(9))
    for part, kept in zip(state, before, strict=True):
        assert torch.equal(part, kept)
    for part, same in zip(first, again, strict=True):
        assert torch.equal(part, same)
    torch.testing.assert_close(select(first, torch.tensor([0])).hidden, first.hidden[:1])


def test_it_follows_the_model() -> None:
    memory = small(components="joint")
    fused = memory.without_gradient()
    optimiser = torch.optim.SGD(memory.parameters(), lr=0.1)
    for change in (
        lambda: optimiser.step(),
        lambda: memory.load_state_dict({name: 0.9 * part for name, part in memory.state_dict().items()}),
        lambda: memory.latent_mean.add_(1.0),
    ):
        before = dreamed(fused, memory, "box", 3)[-1][0].latent
        memory.zero_grad()
        sum(part.square().sum() for part in memory.parameters()).backward()  # type: ignore[union-attr]
        change()
        after = dreamed(fused, memory, "box", 3)[-1][0].latent
        assert not torch.allclose(before, after, atol=1e-3)
        torch.testing.assert_close(after, dreamed(memory.imagine, memory, "box", 3)[-1][0].latent, rtol=1e-3, atol=1e-3)


def test_it_works_within_inference_mode_and_outside_in_turn() -> None:
    memory = small()
    fused = memory.without_gradient()
    outside = dreamed(fused, memory, "box", 7)[-1][0]
    with torch.inference_mode():
        inside = dreamed(fused, memory, "box", 7)[-1][0]
        fused(outside, actions("box", 7), noise=seeded())
    fused(inside, actions("box", 7), noise=seeded())
    assert torch.equal(inside.latent, outside.latent)


def test_what_cannot_be_fused_is_stepped_plainly() -> None:
    class Own(MDNRNN):
        def imagine(self, *args: Any, **options: Any) -> Any:
            return super().imagine(*args, **options)

    far = small()
    far.latent_mean.fill_(1e4)
    own = copy.copy(small())
    own.__class__ = Own
    for memory in (small(width=4), small(dropout=0.5, dropout_in_dream=True), far, own):
        assert memory.without_gradient() == memory.imagine
        with pytest.raises(ConfigurationError, match="dreams in float32 only"):
            memory.without_gradient("bfloat16")
    with pytest.raises(ConfigurationError, match="precision='float16' is not known"):
        small().without_gradient("float16")


def samples(memory: MDNRNN, precision: str, seed: int, rows: int = 4000) -> tuple[Tensor, Prediction]:
    """One step of `rows` dreams from the same moment."""
    state = dreamed(memory.imagine, memory, "box", 1)[-1][0]
    many = type(state)(*(part.expand(rows, -1).contiguous() for part in state))
    step = memory.imagine if precision == "plain" else memory.without_gradient(precision)
    with torch.no_grad():
        after, said = step(many, actions("box", 1).expand(rows, -1), noise=seeded(seed))
    return after.latent, said


@pytest.mark.parametrize("components", ["joint", "per_dimension"])
def test_bfloat16_dreams_follow_the_same_distribution(components: str) -> None:
    """Kolmogorov-Smirnov for each latent, moments, and how often each component is chosen, on other random numbers."""
    memory = small(components=components, hidden_size=32, mixtures=4)
    plain, said = samples(memory, "plain", 1)
    half, also = samples(memory, "bfloat16", 2)
    for dimension in range(memory.latent_size):
        assert stats.ks_2samp(plain[:, dimension].numpy(), half[:, dimension].numpy()).pvalue > 1e-3
    spread = plain.std(0)
    assert ((half.mean(0) - plain.mean(0)).abs() < 5 * spread * np.sqrt(2 / len(plain))).all()
    torch.testing.assert_close(half.std(0), spread, rtol=0.08, atol=0.0)
    torch.testing.assert_close(also.reward, said.reward, rtol=0.02, atol=0.02)
    torch.testing.assert_close(also.termination_probability, said.termination_probability, rtol=0.02, atol=0.002)
    assert abs(float(also.terminated.float().mean() - said.terminated.float().mean())) < 0.04


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_components_are_chosen_as_often_as_their_weights_say(precision: str) -> None:
    """Far apart and narrow, the components can be told from the samples."""
    memory = small(components="joint", mixtures=4)
    count, size = memory.mixtures, memory.latent_size
    with torch.no_grad():
        head = memory.mixture_head
        head.weight.zero_()
        head.bias[:count] = torch.tensor([0.0, 1.0, 2.0, -1.0])
        head.bias[count : count + count * size] = torch.arange(count).repeat_interleave(size) * 10.0
        head.bias[count + count * size :] = -3.0
    latent, _ = samples(memory, precision, 3)
    chosen = (memory.normalise(latent)[:, 0] / 10).round().long()
    expected = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=torch.float64).softmax(0) * len(latent)
    counts = torch.bincount(chosen, minlength=count)
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3
