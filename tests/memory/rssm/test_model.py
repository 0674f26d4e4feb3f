"""The RSSM: single steps against sequences, divergences against torch's own, and the contract of every memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal, OneHotCategorical, kl_divergence

from dreamenv.errors import ConfigurationError
from dreamenv.memory.rssm.latents import CategoricalLatents, GaussianLatents, balanced_divergence
from dreamenv.memory.rssm.model import RSSM
from dreamenv.noise.base import GeneratorNoise
from dreamenv.testing import check_memory
from dreamenv.testing.fakes import BOX, DISCRETE, draw_weights
from tests.memory.small_memory import SPACES, actions, seeded

KINDS: dict[str, dict[str, Any]] = {
    "categorical": {"groups": 3, "classes": 4},
    "gaussian": {"latents": "gaussian", "gaussian_size": 5},
}


def small(space: str = "box", kind: str = "categorical", **options: Any) -> RSSM:
    memory = RSSM(4, SPACES[space], 8, width=8, **KINDS[kind], **options)
    draw_weights(memory, seeded(1))
    return memory.eval()


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract(kind: str, space: str) -> None:
    check_memory(small(space, kind), SPACES[space])


def test_it_keeps_the_contract_with_a_cut_and_plain_regression() -> None:
    check_memory(small(termination="cut", termination_weight=4.0, reward_head="mse"), BOX)


class Fixed:
    """A `Noise` that draws the same for every row and step, so that one step and a sequence of them can be compared."""

    def uniform(self, rows: int, columns: int) -> Tensor:
        return torch.full((rows, columns), 0.35)

    def normal(self, rows: int, columns: int) -> Tensor:
        return torch.full((rows, columns), 0.7)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_its_steps_and_begins_anew_where_an_episode_does(kind: str, space: str) -> None:
    memory = small(space, kind)
    embeddings, taken = torch.randn(2, 6, 4, generator=seeded(3)), actions(space, 2, 6)
    first = torch.tensor([[True, False, False, True, False, False], [True, False, False, False, False, False]])
    found = memory.observe_sequence(embeddings, taken, first, Fixed())
    for row, begins in enumerate([(0, 3), (0,)]):
        state = None
        for step in range(6):
            here = embeddings[row : row + 1, step]
            if step in begins:
                state = memory.initial(here, noise=Fixed())
            else:
                assert state is not None
                state, _ = memory.observe(state, taken[row : row + 1, step], here, noise=Fixed())
            torch.testing.assert_close(memory.features(state)[0], found.features[row, step])
            torch.testing.assert_close(memory.posterior(state.hidden, here)[0], found.posterior[row, step])
            torch.testing.assert_close(memory.prior_network(state.hidden)[0], found.prior[row, step])


def test_nothing_before_an_episodes_first_moment_is_seen() -> None:
    """Neither what came before nor the action there changes what follows: no leak from one episode to the next."""
    memory = small()
    embeddings = torch.randn(1, 5, 4, generator=seeded(3)).requires_grad_()
    taken = torch.randn(1, 5, 2, generator=seeded(4)).requires_grad_()
    first = torch.tensor([[True, False, True, False, False]])
    memory.observe_sequence(embeddings, taken, first, Fixed()).features[:, 2:].square().sum().backward()
    assert embeddings.grad is not None
    assert taken.grad is not None
    assert embeddings.grad[0, :2].abs().sum() == 0
    assert taken.grad[0, :3].abs().sum() == 0
    assert (embeddings.grad[0, 2:].abs().sum(1) > 0).all()
    assert (taken.grad[0, 3:].abs().sum(1) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_moment_without_an_observation_is_what_the_prior_expects(kind: str) -> None:
    """A terminal frame that is missing must not tell by its own look that the task has ended: no dream shows it."""
    memory = small(kind=kind)
    embeddings, taken = torch.randn(2, 4, 4, generator=seeded(3)), torch.randn(2, 4, 2, generator=seeded(4))
    first, seen = torch.zeros(2, 4, dtype=torch.bool), torch.ones(2, 4)
    seen[1, 2] = 0
    found = memory.observe_sequence(embeddings, taken, first, Fixed(), seen=seen)
    other = embeddings.clone()
    other[1, 2] = 9.0
    for ours, theirs in zip(found, memory.observe_sequence(other, taken, first, Fixed(), seen=seen), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(found.posterior[1, 2], found.prior[1, 2])
    plain = memory.observe_sequence(embeddings, taken, first, Fixed())
    torch.testing.assert_close(found.features[0], plain.features[0])
    torch.testing.assert_close(found.features[1, :2], plain.features[1, :2])
    assert not torch.equal(found.features[1, 2], plain.features[1, 2])


def test_divergences_are_those_of_torch() -> None:
    ours, other = torch.randn(2, 7, 12, generator=seeded(5))
    categorical = CategoricalLatents(3, 4, uniform_mix=0.2)
    members = [
        Independent(OneHotCategorical(probs=0.8 * part.view(7, 3, 4).softmax(-1) + 0.2 / 4), 1)
        for part in (ours, other)
    ]
    torch.testing.assert_close(categorical.divergence(ours, other), kl_divergence(*members))
    gaussian = GaussianLatents(6)
    normals = [Independent(Normal(*gaussian.mean_and_std(part)), 1) for part in (ours, other)]
    torch.testing.assert_close(gaussian.divergence(ours, other), kl_divergence(*normals))
    assert gaussian.divergence(ours, ours).abs().max() < 1e-5


@pytest.mark.parametrize("latents", [CategoricalLatents(3, 4), GaussianLatents(6)])
def test_balance_trains_the_prior_by_one_and_the_posterior_by_the_other(latents: Any) -> None:
    posterior, prior = (part.requires_grad_() for part in torch.randn(2, 7, 12, generator=seeded(6)))
    dynamics, representation = balanced_divergence(latents, posterior, prior, free=0.0)
    torch.testing.assert_close(dynamics, representation)
    grads = torch.autograd.grad(dynamics.sum(), [posterior, prior], allow_unused=True)
    assert grads[0] is None
    assert grads[1].abs().sum() > 0
    grads = torch.autograd.grad(representation.sum(), [posterior, prior], allow_unused=True)
    assert grads[0].abs().sum() > 0
    assert grads[1] is None
    free, _ = balanced_divergence(latents, posterior, prior, free=1e3)
    assert torch.equal(free, torch.full_like(free, 1e3))
    assert torch.autograd.grad(free.sum(), prior)[0].abs().sum() == 0, "free bits cost nothing"


def test_samples_come_as_often_as_their_probabilities_say() -> None:
    latents = CategoricalLatents(1, 3, uniform_mix=0.3)
    logits = torch.tensor([2.0, 0.0, -1.0])
    for temperature in (1.0, 0.5):
        expected = ((0.7 * logits.softmax(0) + 0.1).log() / temperature).softmax(0)
        drawn = latents.sample(logits.expand(40_000, 3), GeneratorNoise(seeded(7)), temperature)
        assert ((drawn == 0) | ((drawn - 1).abs() < 1e-6)).all(), "one-hot"
        torch.testing.assert_close(drawn.mean(0), expected, rtol=0.0, atol=0.01)
    mode = latents.sample(logits.expand(5, 3), GeneratorNoise(seeded(8)), 0.0)
    assert mode.argmax(1).tolist() == [0] * 5


def test_gradients_pass_straight_through_a_sample() -> None:
    latents = CategoricalLatents(2, 3)
    logits = torch.randn(4, 6, generator=seeded(9)).requires_grad_()
    weights = torch.randn(4, 6, generator=seeded(10))
    (latents.sample(logits, GeneratorNoise(seeded(11))) * weights).sum().backward()
    expected = torch.autograd.grad((latents.log_probabilities(logits).exp().flatten(1) * weights).sum(), logits)[0]
    torch.testing.assert_close(logits.grad, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latents": "binary"}, "latents='binary'"),
        ({"termination": "never"}, "termination='never'"),
        ({"hidden_size": 0}, "must be at least 1"),
        ({"classes": 1}, "classes >= 2"),
        ({"uniform_mix": 1.0}, "uniform_mix < 1"),
        ({"latents": "gaussian", "gaussian_size": 0}, "at least 1 Gaussian number"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        RSSM(4, DISCRETE, **options)
