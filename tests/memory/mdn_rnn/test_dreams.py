"""Dreams of the MDN-RNN: drawn from their mixture, differentiable, ended as is said, with dropout drawn once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamenv.memory.mdn_rnn.model import MDNRNN, MDNRNNState
from dreamenv.memory.states import repeat
from tests.memory.small_memory import actions, batch, seeded, small


def dream_many(memory: MDNRNN, rows: int, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised next latents `[rows, Z]` of one moment, and its log weights, means and log stds `[K, Z]`."""
    latents = torch.tensor([[[0.3, -0.5, 1.0], [0.0, 0.0, 0.0]]])
    heads = memory.teacher_force(latents, torch.tensor([[[0.5, 1.5]]]))
    state = memory.initial(latents[:, 0], noise=seeded())
    many = repeat(state, rows)
    found, _ = memory.imagine(
        many, torch.tensor([[0.5, 1.5]]).expand(rows, -1), noise=seeded(9), temperature=temperature
    )
    return memory.normalise(found.latent), heads.log_mixture[0, 0], heads.mean[0, 0], heads.log_std[0, 0]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.4])
@torch.no_grad()
def test_dreams_are_drawn_from_the_mixture_at_the_temperature(temperature: float) -> None:
    """Ha & Eck 2017, eq. 8: log weights over τ, variances times τ. Checked by the whole distribution function."""
    memory, rows = small(), 40_000
    seen, log_weights, means, log_stds = dream_many(memory, rows, temperature)
    weights = torch.softmax(log_weights / temperature, 0)
    stds = log_stds.exp() * math.sqrt(temperature)
    mean = (weights * means).sum(0)
    variance = (weights * (stds**2 + means**2)).sum(0) - mean**2
    torch.testing.assert_close(seen.mean(0), mean, rtol=0, atol=0.03 * float(variance.max().sqrt()))
    torch.testing.assert_close(seen.var(0), variance, rtol=0.05, atol=0)
    for dimension in range(3):
        values = seen[:, dimension].sort().values
        expected = (
            weights[:, dimension, None]
            * torch.distributions.Normal(means[:, dimension, None], stds[:, dimension, None]).cdf(values)
        ).sum(0)
        distance = (expected - (torch.arange(rows) + 0.5) / rows).abs().max().item()
        assert distance < 1.95 / math.sqrt(rows)  # Kolmogorov-Smirnov at 0.1%


@torch.no_grad()
def test_joint_components_are_drawn_for_all_dimensions_together() -> None:
    memory = small(components="joint")
    memory.mixture_head.weight.zero_()
    memory.mixture_head.bias[:3] = torch.tensor([0.0, 1.0, -0.5])
    memory.mixture_head.bias[3:12] = torch.tensor([-10.0, 0.0, 10.0]).repeat_interleave(3)
    memory.mixture_head.bias[12:] = -3.0
    seen, *_ = dream_many(memory, 20_000, 1.0)
    component = (seen / 10).round()
    assert (component == component[:, :1]).all()
    expected = torch.softmax(torch.tensor([0.0, 1.0, -0.5]), 0)
    for index, value in enumerate((-1, 0, 1)):
        assert (component[:, 0] == value).float().mean().item() == pytest.approx(expected[index].item(), abs=0.012)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@torch.no_grad()
def test_components_come_as_often_as_they_weigh(temperature: float) -> None:
    memory = small()
    bias = memory.mixture_head.bias.unflatten(0, (3, 3, 3))
    memory.mixture_head.weight.zero_()
    bias[0] = torch.tensor([0.0, 1.0, -0.5])[:, None]
    bias[1] = torch.tensor([-10.0, 0.0, 10.0])[:, None]
    bias[2] = -3.0
    seen, *_ = dream_many(memory, 20_000, temperature)
    component = (seen / 10).round()  # the means are absolute, not relative to where the dream is
    expected = torch.softmax(torch.tensor([0.0, 1.0, -0.5]) / temperature, 0)
    for index, value in enumerate((-1, 0, 1)):
        share = (component == value).float().mean(0)
        torch.testing.assert_close(share, expected[index].expand(3), rtol=0, atol=0.012)
    # dimensions choose for themselves
    joint = ((component[:, 0] == 0) & (component[:, 1] == 0)).float().mean()
    assert joint.item() == pytest.approx(expected[1].item() ** 2, abs=0.012)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reward_sees_next": True},
        {"reward_head": "mse", "cell_features": True},
        {"width": 7, "components": "joint"},
    ],
)
def test_gradients_flow_through_the_dream(options: dict[str, Any]) -> None:
    memory = small(**options)
    latent = torch.randn(4, 3, generator=seeded(), requires_grad=True)
    action = torch.full((4, 2), 0.5, requires_grad=True)
    torch.nn.init.normal_(memory.reward_head.network[2].weight, generator=seeded())
    state = memory.initial(latent, noise=seeded())
    total = torch.zeros(4)
    for step in range(3):
        state, prediction = memory.imagine(state, action, noise=seeded(step))
        total = total + prediction.reward - prediction.termination_probability
    reward, again = (
        torch.autograd.grad(out.sum(), (latent, action), retain_graph=True) for out in (total, memory.features(state))
    )
    for gradient in (*reward, *again):
        assert gradient.isfinite().all()
        assert (gradient != 0).any(dim=1).all()
    assert not prediction.terminated.requires_grad


def test_a_gradient_through_the_dream_is_the_slope() -> None:
    """Of one component: with several, the gradient holds more than the slope of this very sample."""
    memory = small(reward_head="mse", mixtures=1).double()

    def twice(latent: Tensor) -> Tensor:
        hidden = torch.zeros(1, 8, dtype=torch.float64)
        state = MDNRNNState(latent, hidden, hidden, torch.ones(1, 0))
        for step in range(2):
            state, _ = memory.imagine(state, torch.ones(1, 2).double(), noise=seeded(5 + step))
        return torch.cat([state.latent, state.hidden], 1)

    latent = torch.tensor([[0.2, -0.3, 0.8]], dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(twice(latent).sum(), latent)[0][0]
    for index in range(3):
        nudge = torch.zeros(1, 3, dtype=torch.float64)
        nudge[0, index] = 1e-5
        with torch.no_grad():
            difference = (twice(latent + nudge) - twice(latent - nudge)).sum() / 2e-5
        assert slope[index].item() == pytest.approx(difference.item(), rel=1e-3, abs=1e-5)


@torch.no_grad()
def test_ends_are_sampled_or_cut() -> None:
    sampling, cutting = small(termination_weight=4.0), small(termination_weight=4.0, termination="cut")
    for probability in (0.1, 0.3):
        ends = {}
        for memory in (sampling, cutting):
            head = memory.termination_head.network[2]
            head.weight.zero_()
            head.bias.fill_(math.log(probability / (1 - probability)) + math.log(4.0))
            state = memory.initial(torch.zeros(10_000, 3), noise=seeded())
            _, prediction = memory.imagine(state, torch.zeros(10_000, 2), noise=seeded(3))
            torch.testing.assert_close(prediction.termination_probability, torch.full((10_000,), probability))
            assert prediction.terminated.dtype == torch.bool
            ends[memory.termination] = prediction.terminated.float().mean().item()
        assert ends["sample"] == pytest.approx(probability, abs=0.015)
        assert ends["cut"] == float(probability > 1 / (1 + 4))


@torch.no_grad()
def test_the_dropout_of_a_dream_is_drawn_once_an_episode() -> None:
    memory = small(dropout=0.4, dropout_in_dream=True, hidden_size=50)
    state = memory.initial(torch.zeros(200, 3), noise=seeded())
    drawn = state.dropout
    values = drawn.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.6]))
    assert (drawn == 0).float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert not torch.equal(drawn[0], drawn[1])
    other = memory.initial(torch.zeros(200, 3), noise=seeded(1))
    assert not torch.equal(other.dropout, drawn)
    for step in range(3):
        state, _ = memory.imagine(state, actions("box", 200), noise=seeded(step))
        assert torch.equal(state.dropout, drawn)
        state, _ = memory.observe(state, actions("box", 200), torch.zeros(200, 3), noise=seeded(step))
        assert torch.equal(state.dropout, drawn)
    # it hides units from the heads: rows that differ in nothing else are told different things
    same = state._replace(hidden=state.hidden[:1].expand(200, -1), cell=state.cell[:1].expand(200, -1))
    _, prediction = memory.observe(same, actions("box", 1).expand(200, -1), torch.zeros(200, 3), noise=seeded())
    assert prediction.termination_probability.unique().numel() > 100


@torch.no_grad()
def test_without_it_dreams_see_every_unit() -> None:
    for options in ({}, {"dropout": 0.4}, {"dropout_in_dream": True}):
        memory = small(**options)  # type: ignore[arg-type]
        assert memory.initial(torch.zeros(4, 3), noise=seeded()).dropout.shape == (4, 0)


@torch.no_grad()
def test_the_dropout_of_training_is_drawn_once_a_sequence() -> None:
    memory, data = small(dropout=0.5, hidden_size=40), batch()
    hidden, *_ = memory._force(data.latents, data.actions, seeded())
    plain, *_ = memory._force(data.latents, data.actions, None)
    hidden_units = hidden == 0
    assert torch.equal(hidden_units, hidden_units[:, :1].expand_as(hidden_units))
    assert hidden_units.float().mean().item() == pytest.approx(0.5, abs=0.15)
    torch.testing.assert_close(hidden[~hidden_units], 2 * plain[~hidden_units])
    assert memory.loss(data, generator=seeded())["loss"] == memory.loss(data, generator=seeded())["loss"]
    assert memory.loss(data, generator=seeded())["loss"] != memory.loss(data)["loss"]


@pytest.mark.parametrize("components", ["joint", "per_dimension"])
def test_actions_that_change_which_component_comes_have_a_gradient(components: str) -> None:
    """Of the mean over many dreams, the gradient is that of sum_k pi_k mu_k, weights included."""
    memory = small("box", components=components)
    with torch.no_grad():
        memory.mixture_head.weight.mul_(4.0)  # components further apart, and more of the action in their weights
        memory.mixture_head.bias.zero_()
        memory.lstm.weight_ih_l0.mul_(2.0)
    rows = 40_000
    latent = torch.randn(1, memory.latent_size, generator=seeded()).expand(rows, -1)
    action = actions("box", 1).requires_grad_()
    state = memory.initial(latent, noise=seeded())
    after, _ = memory.imagine(state, action.expand(rows, -1), noise=seeded(3))
    (found,) = torch.autograd.grad(after.latent.mean(0).sum(), action)

    hidden, _ = memory._advance(memory.initial(latent[:1], noise=seeded()), action)
    log_weights, means, _ = memory.mixture(hidden)
    weights = log_weights.softmax(1)

    def gradient(weights: Tensor) -> Tensor:
        mean = (weights * means).sum(1) * memory.latent_std
        return torch.autograd.grad(mean.sum(), action, retain_graph=True)[0]

    exact = gradient(weights)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.03)
    assert (gradient(weights.detach()) - exact).abs().max() > 0.1  # what the samples alone would miss
