"""The MDN-RNN: its likelihood against torch's own, and single steps against whole sequences."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.mdn_rnn.likelihood import mixture_nll
from dreamenv.memory.mdn_rnn.model import MDNRNN, MDNRNNState
from dreamenv.memory.states import select
from tests.fakes import BOX
from tests.memory.small_memory import SPACES, actions, batch, seeded, small


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


def test_the_likelihood_of_joint_components_is_that_of_torch() -> None:
    generator = seeded()
    mean, log_std = torch.randn(2, 4, 5, 6, 7, generator=generator).unbind(0)
    log_weights = torch.randn(4, 5, 6, 1, generator=generator)
    target = 3 * torch.randn(4, 5, 1, 7, generator=generator)
    expected = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=log_weights.squeeze(-1)),
        torch.distributions.Independent(torch.distributions.Normal(mean, log_std.exp()), 1),
    ).log_prob(target.squeeze(-2))
    found = mixture_nll(target, log_weights, mean, log_std)
    torch.testing.assert_close(found, -expected.unsqueeze(-1))
    # the loss is in nats a dimension all the same
    memory, data = small("box", components="joint"), batch("box")
    heads = memory.teacher_force(data.latents, data.actions)
    nll = mixture_nll(memory.normalise(data.targets).unsqueeze(2), heads.log_mixture, heads.mean, heads.log_std)
    seen = data.latent_mask
    torch.testing.assert_close(memory.loss(data)["latent_nll"], (nll[..., 0] / 3 * seen).sum() / seen.sum())


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_the_loss_is_the_sum_of_its_parts_over_what_counts(space: str) -> None:
    memory, data = small(space, termination_weight=3.0), batch(space)
    mask, seen = torch.zeros(4, 6), torch.zeros(4, 6)
    mask[0, 2:], mask[3] = 1, 1
    seen[0, 2:5], seen[3] = 1, 1
    found = memory.loss(dataclasses.replace(data, mask=mask, latent_mask=seen))
    heads = memory.teacher_force(data.latents, data.actions)
    target = memory.normalise(data.targets)
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
@pytest.mark.parametrize(
    "options", [{}, {"reward_sees_next": True, "reward_head": "mse"}, {"width": 7, "components": "joint"}]
)
def test_single_steps_say_what_teacher_forcing_says(space: str, options: dict[str, Any]) -> None:
    memory, data = small(space, **options), batch(space, steps=9)
    heads = memory.teacher_force(data.latents, data.actions)
    hidden = memory._force(data.latents, data.actions, None)[0]
    state = memory.initial(data.latents[:, 0], noise=seeded())
    assert not state.hidden.any()
    for step in range(9):
        before = state
        state, prediction = memory.observe(state, data.actions[:, step], data.latents[:, step + 1], noise=seeded())
        torch.testing.assert_close(state.hidden, hidden[:, step])
        assert torch.equal(state.latent, data.latents[:, step + 1])
        torch.testing.assert_close(prediction.reward, heads.reward[:, step])
        torch.testing.assert_close(prediction.termination_probability, heads.termination_probability[:, step])
        imagined, dreamed = memory.imagine(before, data.actions[:, step], noise=seeded())
        torch.testing.assert_close(imagined.hidden, state.hidden)
        torch.testing.assert_close(dreamed.termination_probability, prediction.termination_probability)
        if not memory.reward_sees_next:
            torch.testing.assert_close(dreamed.reward, prediction.reward)


@pytest.mark.parametrize("rows", [1, 5])
@torch.no_grad()
def test_rows_do_not_see_each_other(rows: int) -> None:
    """A batch is so many dreams: what row i becomes does not depend on what lies beside it."""
    memory = small()
    state = MDNRNNState(*(torch.randn(5, size, generator=seeded(size)) for size in (3, 8, 8)), torch.ones(5, 0))
    whole = memory.observe(state, actions("box", 5), torch.ones(5, 3), noise=seeded())
    index = torch.arange(rows)
    part = memory.observe(select(state, index), actions("box", 5)[:rows], torch.ones(rows, 3), noise=seeded())
    torch.testing.assert_close(part[0].hidden, whole[0].hidden[:rows])
    torch.testing.assert_close(part[1].reward, whole[1].reward[:rows])


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


def without_bfloat16(lstm: torch.nn.LSTM) -> Any:
    """Its forward pass on a processor that has none in bfloat16."""
    forward = lstm.forward

    def refuses(*inputs: Any) -> Any:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")
        return forward(*inputs)

    return refuses


@pytest.mark.parametrize("has", [True, False], ids=["as this processor can", "without an LSTM in it"])
def test_bfloat16_autocast_trains(has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, data = small(), batch()
    if not has:
        monkeypatch.setattr(memory.lstm, "forward", without_bfloat16(memory.lstm))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = memory.loss(data, generator=seeded())
    assert {value.dtype for value in found.values()} == {torch.float32}
    torch.testing.assert_close(found["loss"], memory.loss(data)["loss"], rtol=0.03, atol=0.02)
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in memory.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 0}, "at least 1"),
        ({"mixtures": 0}, "at least 1"),
        ({"termination": "cutt"}, "expected one of"),
        ({"components": "shared"}, "expected one of"),
        ({"width": -1}, "width must be at least 0"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
        ({"reward_head": "l1"}, "expected one of"),
        ({"termination_weight": -1.0}, "must be positive"),
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MDNRNN(3, BOX, **options)
