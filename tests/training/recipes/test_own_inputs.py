"""Latents that M draws itself while it is fitted: which, and that they are those of its dreams."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dreamenv.errors import ConfigurationError
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.training.recipes.fit_mdn_rnn import FitMemoryOptions
from dreamenv.training.recipes.own_inputs import with_own_inputs
from tests.memory.small_memory import batch, seeded, small

LENGTH = 5


def certain_memory(components: str) -> MDNRNN:
    """Its draws are hardly wider than a point, so that its dreams are known."""
    memory = small("box", mixtures=1, components=components)
    spreads = memory.latent_size
    with torch.no_grad():
        memory.lstm.weight_ih_l0 *= 4  # so that it matters what it is given
        memory.mixture_head.weight[-spreads:] = 0
        memory.mixture_head.bias[-spreads:] = -20
    return memory


def sequences(rows: int = 3) -> SequenceBatch:
    return batch("box", rows, LENGTH)


@pytest.mark.parametrize("components", ["per_dimension", "joint"])
def test_as_many_steps_as_passes_are_those_of_a_dream(components: str) -> None:
    memory, real = certain_memory(components), sequences()
    state = memory.initial(real.latents[:, 0], noise=seeded())
    dreamed = []
    for time in range(LENGTH - 1):
        state, _ = memory.imagine(state, real.actions[:, time], noise=seeded(), temperature=0.0)
        dreamed.append(state.latent)
    dream = torch.stack(dreamed, 1)
    for steps in (2, LENGTH - 1):
        own = with_own_inputs(memory, real, share=1.0, steps=steps, generator=seeded()).latents
        torch.testing.assert_close(own[:, 1 : steps + 1], dream[:, :steps], rtol=0, atol=0.02)
        assert torch.equal(own[:, 0], real.latents[:, 0])
        assert torch.equal(own[:, -1], real.latents[:, -1])
        if steps == 2:
            assert (own[:, 3] - dream[:, 2]).abs().max() > 0.1


def test_a_share_is_replaced_and_nothing_else_of_the_batch() -> None:
    memory, real = small("box"), sequences(2000)
    own = with_own_inputs(memory, real, share=0.25, steps=1, generator=seeded(3))
    replaced = (own.latents != real.latents).any(-1)
    assert replaced[:, 1:-1].float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert not replaced[:, [0, -1]].any()
    for field in dataclasses.fields(SequenceBatch):
        if field.name != "latents":
            assert getattr(own, field.name) is getattr(real, field.name)
    assert not own.latents.requires_grad
    again = with_own_inputs(memory, real, share=0.25, steps=1, generator=seeded(3))
    assert torch.equal(again.latents, own.latents)
    assert with_own_inputs(memory, real, share=0.0, steps=1, generator=seeded(3)) is real


def test_draws_choose_components_by_their_weights_and_spread_by_their_deviations() -> None:
    """A thousand draws of one step are distributed as those of `imagine`."""
    memory, rows = small("box"), 4000
    one = batch("box", 1, 2)
    latents, actions = one.latents.expand(rows, -1, -1), one.actions.expand(rows, -1, -1)
    uniform = torch.rand(rows, 2, memory.mixture_weights, generator=seeded(1))
    normal = torch.randn(rows, 2, memory.latent_size, generator=seeded(2))
    with torch.no_grad():
        drawn = memory.drawn(latents, actions, uniform=uniform, normal=normal)[:, 0]
        state = memory.initial(latents[:, 0], noise=seeded())
        imagined = memory.imagine(state, actions[:, 0], noise=seeded(3))[0].latent
    spread = imagined.std(0)
    assert ((drawn.mean(0) - imagined.mean(0)).abs() < 0.1 * spread).all()
    torch.testing.assert_close(drawn.std(0), spread, rtol=0.1, atol=0)


def test_the_share_grows_over_the_first_half_and_is_checked() -> None:
    options = FitMemoryOptions(steps=100, own_inputs=0.4)
    assert [options.own_share(step) for step in (0, 25, 50, 99)] == pytest.approx([0.0, 0.2, 0.4, 0.4])
    for wrong in ({"own_inputs": 1.5}, {"own_inputs": -0.1}, {"own_steps": 0}):
        with pytest.raises(ConfigurationError, match="need own_inputs in"):
            FitMemoryOptions(**wrong)  # type: ignore[arg-type]
