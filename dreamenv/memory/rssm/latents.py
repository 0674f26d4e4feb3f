"""Distributions of an RSSM's stochastic state: Gaussian (PlaNet, Dreamer) or categorical (Dreamer V2 and V3)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import Noise


class Latents(ABC):
    """A family of distributions over a vector of `width` numbers, each member given by `statistics` numbers.

    Attributes:
        width: S, numbers of a sample.
        statistics: P, numbers that a network gives for each distribution.
    """

    width: int
    statistics: int

    @abstractmethod
    def sample(self, statistics: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        """`[B, S]` from `[B, P]`, differentiable; temperature 0 is the mode."""

    @abstractmethod
    def divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """`KL(posterior, prior)` in nats, `[...]` from statistics `[..., P]`."""


class CategoricalLatents(Latents):
    """G one-hot vectors of C classes (Hafner et al. 2021, "Mastering Atari with discrete world models", section 2).

    Samples have straight-through gradients: forward the one-hot, backward the probabilities. A share `uniform_mix` of
    each distribution is uniform, so that no divergence is infinite (Hafner et al. 2023, "Mastering diverse domains
    through world models"). Temperature divides the log probabilities.

    Raises:
        ConfigurationError: A number out of range.
    """

    def __init__(self, groups: int, classes: int, uniform_mix: float = 0.01) -> None:
        if groups < 1 or classes < 2 or not 0 <= uniform_mix < 1:
            raise ConfigurationError(
                f"need groups >= 1, classes >= 2 and 0 <= uniform_mix < 1; got {groups}, {classes}, {uniform_mix}"
            )
        self.groups, self.classes, self.uniform_mix = groups, classes, uniform_mix
        self.width = self.statistics = groups * classes

    def log_probabilities(self, statistics: Tensor) -> Tensor:
        """`[..., G, C]`."""
        logits = statistics.float().unflatten(-1, (self.groups, self.classes))
        if self.uniform_mix == 0:
            return logits.log_softmax(-1)
        mixed = (1 - self.uniform_mix) * logits.softmax(-1) + self.uniform_mix / self.classes
        return mixed.log()

    def sample(self, statistics: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        log_probabilities = self.log_probabilities(statistics)
        uniform = noise.uniform(len(statistics), self.groups)
        if temperature == 0:
            probabilities, chosen = log_probabilities.exp(), log_probabilities.argmax(-1)
        else:
            probabilities = (log_probabilities / temperature).softmax(-1)
            # A uniform number through the inverse of the cumulative probabilities
            chosen = (uniform.unsqueeze(-1) >= probabilities.detach().cumsum(-1)[..., :-1]).sum(-1)
        one_hot = functional.one_hot(chosen, self.classes).to(probabilities.dtype)
        # The difference first, which is 0: the other way round samples would be one-hot up to rounding only
        return (one_hot + (probabilities - probabilities.detach())).flatten(1)

    def divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        ours, other = self.log_probabilities(posterior), self.log_probabilities(prior)
        return (ours.exp() * (ours - other)).sum((-2, -1))


class GaussianLatents(Latents):
    """S independent normal numbers (Hafner et al. 2019, "Learning latent dynamics for planning from pixels").

    Standard deviations are softplus of the network's output, plus `least_std`. Temperature multiplies the variances.

    Raises:
        ConfigurationError: A number out of range.
    """

    def __init__(self, width: int, least_std: float = 0.1) -> None:
        if width < 1 or not least_std > 0:
            raise ConfigurationError(f"need at least 1 Gaussian number and least_std above 0; got {width}, {least_std}")
        self.width, self.statistics, self.least_std = width, 2 * width, least_std

    def mean_and_std(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        """Each `[..., S]`."""
        mean, raw = statistics.float().chunk(2, -1)
        return mean, functional.softplus(raw) + self.least_std

    def sample(self, statistics: Tensor, noise: Noise, temperature: float = 1.0) -> Tensor:
        mean, std = self.mean_and_std(statistics)
        return mean + math.sqrt(temperature) * std * noise.normal(len(statistics), self.width)

    def divergence(self, posterior: Tensor, prior: Tensor) -> Tensor:
        (mean, std), (prior_mean, prior_std) = self.mean_and_std(posterior), self.mean_and_std(prior)
        ratio = (std / prior_std).square()
        distance = ((mean - prior_mean) / prior_std).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)


def balanced_divergence(latents: Latents, posterior: Tensor, prior: Tensor, *, free: float) -> tuple[Tensor, Tensor]:
    """The divergence that trains the prior, and the one that trains the posterior, each `[...]` and at least `free`.

    KL balancing (Hafner et al. 2021, algorithm 2) with free bits (Hafner et al. 2023, eq. 5): both are the same number,
    and what it is the gradient of differs. `free` nats of divergence cost nothing.
    """
    dynamics = latents.divergence(posterior.detach(), prior)
    representation = latents.divergence(posterior, prior.detach())
    return torch.clamp(dynamics, min=free), torch.clamp(representation, min=free)
