"""The MDN-RNN: its likelihood against torch's own, its dreams against their mixture."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import SequenceBatch, repeat, select
from dreamenv.memory.mdn_rnn import MDNRNN, MDNRNNState, mixture_nll
from tests.fakes import BOX, DISCRETE, draw_weights

SPACES = {"box": BOX, "discrete": DISCRETE}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(space: str = "box", *, latent_size: int = 3, scaled: bool = True, **options: Any) -> MDNRNN:
    memory = MDNRNN(latent_size, SPACES[space], **({"hidden_size": 8, "mixtures": 3} | options))
    draw_weights(memory, seeded(1))
    if scaled:
        memory.latent_mean.copy_(torch.linspace(-1, 2, latent_size))
        memory.latent_std.copy_(torch.linspace(0.5, 3, latent_size))
    return memory.eval()


def actions(space: str, *shape: int) -> Tensor:
    if space == "discrete":
        return torch.randint(1, 5, shape, generator=seeded(5))
    return torch.rand(*shape, 2, generator=seeded(5)) * 2 - torch.tensor([1.0, 0.0])


def batch(space: str = "box", rows: int = 4, steps: int = 6) -> SequenceBatch:
    generator = seeded(6)
    return SequenceBatch(
        latents=torch.randn(rows, steps + 1, 3, generator=generator),
        actions=actions(space, rows, steps),
        rewards=torch.randn(rows, steps, generator=generator),
        terminated=(torch.rand(rows, steps, generator=generator) < 0.2).float(),
        mask=torch.ones(rows, steps),
        latent_mask=torch.ones(rows, steps),
    )


def mixture(log_weights: Tensor, mean: Tensor, log_std: Tensor) -> torch.distributions.MixtureSameFamily:
    """Torch's own mixture of parameters `[..., K, Z]`, a mixture a dimension."""
    return torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=log_weights.transpose(-1, -2)),
        torch.distributions.Normal(mean.transpose(-1, -2), log_std.exp().transpose(-1, -2)),
    )


def test_the_likelihood_is_that_of_torch() -> None:
    generator = seeded()
    log_weights, mean, log_std = torch.randn(3, 4, 5, 6, 7, generator=generator).unbind(0)
    target = 3 * torch.randn(4, 5, 1, 7, generator=generator)
    found = mixture_nll(target, log_weights, mean, log_std)
    assert found.shape == (4, 5, 7)
    torch.testing.assert_close(found, -mixture(log_weights, mean, log_std).log_prob(target.squeeze(-2)))
    # far out, where every density underflows
    far = mixture_nll(target + 1e4, log_weights, mean, log_std)
    assert far.isfinite().all()


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_the_loss_is_the_sum_of_its_parts_over_what_counts(space: str) -> None:
    memory, data = small(space, termination_weight=3.0), batch(space)
    mask, seen = torch.zeros(4, 6), torch.zeros(4, 6)
    mask[0, 2:], mask[3] = 1, 1
    seen[0, 2:5], seen[3] = 1, 1
    found = memory.loss(dataclasses.replace(data, mask=mask, latent_mask=seen))
    heads = memory.teacher_force(data.latents, data.actions)
    target = memory.normalise(data.latents[:, 1:])
    nll = -mixture(heads.log_mixture, heads.mean, heads.log_std).log_prob(target).mean(-1)
    torch.testing.assert_close(found["latent_nll"], (nll * seen).sum() / seen.sum())
    weights = torch.where(data.terminated > 0, 3.0, 1.0)
    entropy = weights * torch.nn.functional.binary_cross_entropy_with_logits(
        heads.termination_logit, data.terminated, reduction="none"
    )
    torch.testing.assert_close(found["termination"], (entropy * mask).sum() / mask.sum())
    torch.testing.assert_close(found["loss"], found["latent_nll"] + found["reward"] + found["termination"])
    # what does not count has no say
    changed = dataclasses.replace(
        data,
        mask=mask,
        latent_mask=seen,
        rewards=torch.where(mask > 0, data.rewards, 99.0),
        terminated=torch.where(mask > 0, data.terminated, 1.0),
    )
    assert memory.loss(changed)["loss"] == found["loss"]
    nothing = dataclasses.replace(data, mask=torch.zeros(4, 6), latent_mask=torch.zeros(4, 6))
    assert memory.loss(nothing)["loss"] == 0


@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize("options", [{}, {"reward_sees_next": True, "reward_head": "mse"}])
def test_single_steps_say_what_teacher_forcing_says(space: str, options: dict[str, Any]) -> None:
    memory, data = small(space, **options), batch(space, steps=9)
    heads = memory.teacher_force(data.latents, data.actions)
    hidden = memory._force(data.latents, data.actions, None)[0]
    state = memory.initial(data.latents[:, 0], generator=seeded())
    assert not state.hidden.any()
    for step in range(9):
        before = state
        state, prediction = memory.observe(state, data.actions[:, step], data.latents[:, step + 1], generator=seeded())
        torch.testing.assert_close(state.hidden, hidden[:, step])
        assert torch.equal(state.latent, data.latents[:, step + 1])
        torch.testing.assert_close(prediction.reward, heads.reward[:, step])
        torch.testing.assert_close(prediction.termination_probability, heads.termination_probability[:, step])
        imagined, dreamed = memory.imagine(before, data.actions[:, step], generator=seeded())
        torch.testing.assert_close(imagined.hidden, state.hidden)
        torch.testing.assert_close(dreamed.termination_probability, prediction.termination_probability)
        if not memory.reward_sees_next:
            torch.testing.assert_close(dreamed.reward, prediction.reward)


def dream_many(memory: MDNRNN, rows: int, temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised next latents `[rows, Z]` of one moment, and its log weights, means and log stds `[K, Z]`."""
    latents = torch.tensor([[[0.3, -0.5, 1.0], [0.0, 0.0, 0.0]]])
    heads = memory.teacher_force(latents, torch.tensor([[[0.5, 1.5]]]))
    state = memory.initial(latents[:, 0], generator=seeded())
    many = repeat(state, rows)
    found, _ = memory.imagine(
        many, torch.tensor([[0.5, 1.5]]).expand(rows, -1), generator=seeded(9), temperature=temperature
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
    start = memory.normalise(torch.tensor([0.3, -0.5, 1.0]))
    component = ((seen - start) / 10).round()
    expected = torch.softmax(torch.tensor([0.0, 1.0, -0.5]) / temperature, 0)
    for index, value in enumerate((-1, 0, 1)):
        share = (component == value).float().mean(0)
        torch.testing.assert_close(share, expected[index].expand(3), rtol=0, atol=0.012)
    # dimensions choose for themselves
    joint = ((component[:, 0] == 0) & (component[:, 1] == 0)).float().mean()
    assert joint.item() == pytest.approx(expected[1].item() ** 2, abs=0.012)


@pytest.mark.parametrize("options", [{}, {"reward_sees_next": True}, {"reward_head": "mse", "cell_features": True}])
def test_gradients_flow_through_the_dream(options: dict[str, Any]) -> None:
    memory = small(**options)
    latent = torch.randn(4, 3, generator=seeded(), requires_grad=True)
    action = torch.full((4, 2), 0.5, requires_grad=True)
    torch.nn.init.normal_(memory.reward_head.network[2].weight, generator=seeded())
    state = memory.initial(latent, generator=seeded())
    total = torch.zeros(4)
    for step in range(3):
        state, prediction = memory.imagine(state, action, generator=seeded(step))
        total = total + prediction.reward - prediction.termination_probability
    reward, again = (
        torch.autograd.grad(out.sum(), (latent, action), retain_graph=True) for out in (total, memory.features(state))
    )
    for gradient in (*reward, *again):
        assert gradient.isfinite().all()
        assert (gradient != 0).any(dim=1).all()
    assert not prediction.terminated.requires_grad


def test_a_gradient_through_the_dream_is_the_slope() -> None:
    memory = small(reward_head="mse").double()

    def twice(latent: Tensor) -> Tensor:
        hidden = torch.zeros(1, 8, dtype=torch.float64)
        state = MDNRNNState(latent, hidden, hidden, torch.ones(1, 0))
        for step in range(2):
            # seed 5 keeps every uniform away from a component's boundary
            state, _ = memory.imagine(state, torch.ones(1, 2).double(), generator=seeded(5 + step))
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
            state = memory.initial(torch.zeros(10_000, 3), generator=seeded())
            _, prediction = memory.imagine(state, torch.zeros(10_000, 2), generator=seeded(3))
            torch.testing.assert_close(prediction.termination_probability, torch.full((10_000,), probability))
            assert prediction.terminated.dtype == torch.bool
            ends[memory.termination] = prediction.terminated.float().mean().item()
        assert ends["sample"] == pytest.approx(probability, abs=0.015)
        assert ends["cut"] == float(probability > 1 / (1 + 4))


@pytest.mark.parametrize("rows", [1, 5])
@torch.no_grad()
def test_rows_do_not_see_each_other(rows: int) -> None:
    """A batch is so many dreams: what row i becomes does not depend on what lies beside it."""
    memory = small()
    state = MDNRNNState(*(torch.randn(5, size, generator=seeded(size)) for size in (3, 8, 8)), torch.ones(5, 0))
    whole = memory.observe(state, actions("box", 5), torch.ones(5, 3), generator=seeded())
    index = torch.arange(rows)
    part = memory.observe(select(state, index), actions("box", 5)[:rows], torch.ones(rows, 3), generator=seeded())
    torch.testing.assert_close(part[0].hidden, whole[0].hidden[:rows])
    torch.testing.assert_close(part[1].reward, whole[1].reward[:rows])


@torch.no_grad()
def test_the_dropout_of_a_dream_is_drawn_once_an_episode() -> None:
    memory = small(dropout=0.4, dropout_in_dream=True, hidden_size=50)
    state = memory.initial(torch.zeros(200, 3), generator=seeded())
    drawn = state.dropout
    values = drawn.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.6]))
    assert (drawn == 0).float().mean().item() == pytest.approx(0.4, abs=0.02)
    assert not torch.equal(drawn[0], drawn[1])
    other = memory.initial(torch.zeros(200, 3), generator=seeded(1))
    assert not torch.equal(other.dropout, drawn)
    for step in range(3):
        state, _ = memory.imagine(state, actions("box", 200), generator=seeded(step))
        assert torch.equal(state.dropout, drawn)
        state, _ = memory.observe(state, actions("box", 200), torch.zeros(200, 3), generator=seeded(step))
        assert torch.equal(state.dropout, drawn)
    # it hides units from the heads: rows that differ in nothing else are told different things
    same = state._replace(hidden=state.hidden[:1].expand(200, -1), cell=state.cell[:1].expand(200, -1))
    _, prediction = memory.observe(same, actions("box", 1).expand(200, -1), torch.zeros(200, 3), generator=seeded())
    assert prediction.termination_probability.unique().numel() > 100


@torch.no_grad()
def test_without_it_dreams_see_every_unit() -> None:
    for options in ({}, {"dropout": 0.4}, {"dropout_in_dream": True}):
        memory = small(**options)  # type: ignore[arg-type]
        assert memory.initial(torch.zeros(4, 3), generator=seeded()).dropout.shape == (4, 0)


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


def test_features_are_what_the_paper_gives_the_controller() -> None:
    for cell, size in ((False, 3 + 8), (True, 3 + 8 + 8)):
        memory = small(cell_features=cell)
        state = MDNRNNState(torch.full((2, 3), 1.0), torch.full((2, 8), 2.0), torch.full((2, 8), 3.0), torch.ones(2, 0))
        assert memory.feature_size == size
        assert memory.features(state)[0].tolist() == [1.0] * 3 + [2.0] * 8 + [3.0] * (8 if cell else 0)
        assert torch.equal(memory.latent(state), state.latent)
        assert all(torch.equal(a, b) for a, b in zip(memory.state_from_tensors(state._asdict()), state, strict=True))


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_the_config_rebuilds_the_model(space: str) -> None:
    memory = small(
        space,
        cell_features=True,
        reward_head="mse",
        reward_sees_next=True,
        termination="cut",
        termination_weight=7.0,
        dropout=0.25,
        dropout_in_dream=True,
    )
    config = memory.config()
    assert config.pop("kind") == "mdn_rnn"
    again = MDNRNN(action_space=SPACES[space], **config)
    again.load_state_dict(memory.state_dict())
    assert again.config() == memory.config()
    assert torch.equal(again.latent_mean, memory.latent_mean)
    data = batch(space)
    assert again.loss(data)["loss"] == memory.loss(data)["loss"]


def test_bfloat16_autocast_trains() -> None:
    memory, data = small(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = memory.loss(data, generator=seeded())
    assert {value.dtype for value in found.values()} == {torch.float32}
    torch.testing.assert_close(found["loss"], memory.loss(data)["loss"], rtol=0.03, atol=0.02)
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in memory.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "at least 1"),
        ({"mixtures": 0}, "at least 1"),
        ({"termination": "cutt"}, "expected one of"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"reward_head": "l1"}, "expected one of"),
        ({"termination_weight": -1.0}, "must be positive"),
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MDNRNN(3, BOX, **options)
