"""V and M of an RSSM as one module: sizes, loss, figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.memory.heads import check_reward_range, masked_mean, reward_bound_for
from dreamenv.memory.rssm.latents import balanced_divergence
from dreamenv.memory.rssm.model import RSSM, Observed
from dreamenv.noise.base import GeneratorNoise, seeded_weights, step_generator
from dreamenv.training.explained import explained
from dreamenv.training.fit import FitOptions, Losses, Scalars, check_batch_size
from dreamenv.training.fit_vision import FitVisionOptions
from dreamenv.training.recipes.base import Job, begin_with, check_options, check_pictures
from dreamenv.training.recipes.vae import VisionOptions
from dreamenv.training.replay import Replay, ReplayBatch, check_windows
from dreamenv.vision.base import Vision
from dreamenv.vision.joint import ConvAutoencoder, JointVision, SymlogMLP

# Windows of held-out experience that are measured at each validation, so many at once
_HELD_OUT_WINDOWS, _AT_ONCE = 64, 16
# A latent that hardly varies in the data is no unit for errors
_LEAST_STD = 0.05


@dataclass(frozen=True)
class NetworkOptions:
    """Sizes of encoder and decoder.

    Attributes:
        depth: Channels of the first convolution, for pictures.
        width: Units of the hidden layers, for vectors.
        frozen: Fit a VAE to the pictures first, keep it as it is, and let encoder, RSSM and decoder learn from what it
            encodes, without convolutions: many times cheaper a step.
    """

    depth: int = 16
    width: int = 256
    frozen: bool = False

    def __post_init__(self) -> None:
        if min(self.depth, self.width) < 1:
            raise ConfigurationError(f"depth and width must be at least 1, got {self.depth} and {self.width}")


@dataclass(frozen=True)
class MemoryOptions:
    """Keyword arguments of `RSSM`; a `reward_bound` of None covers the rewards of the data."""

    hidden_size: int = 256
    latents: str = "categorical"
    groups: int = 16
    classes: int = 16
    gaussian_size: int = 32
    width: int = 256
    uniform_mix: float = 0.01
    reward_head: str = "two_hot"
    reward_bound: float | None = None
    termination: str = "sample"
    termination_weight: float = 1.0

    def __post_init__(self) -> None:
        check_options(RSSM, self)


@dataclass(frozen=True)
class LossOptions:
    """Weights of the joint loss: reconstruction · error + reward + termination + dynamics · KL + representation · KL.

    Attributes:
        reconstruction: Of half the squared error of what is decoded, summed over an observation. More of it keeps more
            of what is seen, for more divergence.
        dynamics: Of the divergence that trains the prior (Hafner et al. 2023, eq. 4: 1; 0.8 in Dreamer V2).
        representation: Of the divergence that trains the posterior (0.1; 0.2 in Dreamer V2).
        free_nats: Divergence a moment that costs nothing.
    """

    reconstruction: float = 1.0
    dynamics: float = 1.0
    representation: float = 0.1
    free_nats: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ConfigurationError(f"{name} must be at least 0, got {value}")


@dataclass(frozen=True)
class JointFitOptions:
    """How the whole is fitted.

    Attributes:
        steps: Optimiser steps.
        batch_size: Windows a step.
        sequence_length: Moments of a window.
        recency: As for `Replay`; 0 draws uniformly over all experience.
        clip: Largest gradient norm.
        learning_rate, validate_every, patience, precision: As for `fit`.
    """

    steps: int = 5000
    batch_size: int = 16
    sequence_length: int = 64
    recency: float = 0.0
    clip: float = 100.0
    learning_rate: float = 4e-4
    validate_every: int = 250
    patience: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        check_windows(self.sequence_length, self.recency)
        FitOptions.of(self)  # refuses what is out of range


@dataclass(frozen=True)
class RSSMOptions:
    """Hyperparameters of `RSSMRecipe`.

    Attributes:
        network: Sizes of encoder and decoder.
        memory: Sizes and choices of M.
        loss: Weights of the loss.
        fit: How it is fitted.
        vision: The VAE of a frozen V.
        fit_vision: How the VAE is fitted.
        mirror: Where left and right are alike: of Box actions the factor of each dimension in a mirror, 1 or -1; of
            Discrete ones what each becomes. Every second window is then replayed as its mirror image. For pictures.
        refit_steps: Optimiser steps of a later fit, which starts from the model before.
    """

    network: NetworkOptions = field(default_factory=NetworkOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    fit: JointFitOptions = field(default_factory=JointFitOptions)
    vision: VisionOptions = field(default_factory=VisionOptions)
    fit_vision: FitVisionOptions = field(default_factory=FitVisionOptions)
    mirror: tuple[float, ...] | None = None
    refit_steps: int = 2000

    def __post_init__(self) -> None:
        if self.refit_steps < 1:
            raise ConfigurationError(f"refit_steps must be at least 1, got {self.refit_steps}")


class JointModel(nn.Module):
    """V and M as one module to be fitted."""

    def __init__(self, vision: JointVision, memory: RSSM) -> None:
        super().__init__()
        self.vision, self.memory = vision, memory

    def loss(self, batch: ReplayBatch, options: LossOptions, generator: torch.Generator) -> Losses:
        """`loss` and its parts, each a mean over moments: `reconstruction` and `divergence` in nats."""
        return self.losses_of(batch, self.observe(batch, generator), options)

    def losses_of(self, batch: ReplayBatch, observed: Observed, options: LossOptions) -> Losses:
        """`loss`, of what M has made of the batch."""
        memory = self.memory
        features = observed.features.flatten(0, 1)
        seen = batch.seen.flatten()
        reconstruction = masked_mean(self.vision.reconstruction_loss(features, batch.observations.flatten(0, 1)), seen)
        # Nothing was earned on the way to an episode's first moment
        led = (~batch.first).float().flatten()
        reward = masked_mean(memory.reward_head.loss(features, batch.rewards.flatten()), led)
        termination = masked_mean(memory.termination_head.loss(features, batch.terminated.flatten()), led)
        dynamics, representation = balanced_divergence(
            memory.latents, observed.posterior, observed.prior, free=options.free_nats
        )
        divergence = masked_mean(memory.latents.divergence(observed.posterior, observed.prior).flatten(), seen)
        loss = options.reconstruction * reconstruction + reward + termination
        loss = loss + options.dynamics * masked_mean(dynamics.flatten(), seen)
        loss = loss + options.representation * masked_mean(representation.flatten(), seen)
        parts = {"reconstruction": reconstruction, "reward": reward, "termination": termination}
        return {"loss": loss} | {k: v.detach() for k, v in (parts | {"divergence": divergence}).items()}

    @torch.no_grad()
    def predicted_rewards(self, batch: ReplayBatch, generator: torch.Generator) -> Tensor:
        """`[B, T]`, expected rewards of the moments."""
        features = self.observe(batch, generator).features
        return self.memory.reward_head(features)

    def observe(self, batch: ReplayBatch, generator: torch.Generator) -> Observed:
        """What M makes of what V encodes."""
        embedded = self.vision.encode(batch.observations.flatten(0, 1)).unflatten(0, batch.first.shape)
        noise = GeneratorNoise(generator)
        return self.memory.observe_sequence(embedded, batch.actions, batch.first, noise, seen=batch.seen)


@torch.no_grad()
def held_out_scalars(model: JointModel, replay: Replay, options: LossOptions, *, seed: int) -> Scalars:
    """Losses on the same windows of held-out experience each time, and `reward_r2`, the share of the reward's variance
    that is predicted once the observation has been seen."""
    device = model.memory.device
    begin = np.random.default_rng([seed, 2**31]).integers(len(replay), size=_HELD_OUT_WINDOWS)
    totals: Scalars = {}
    real, predicted = [], []
    for start in range(0, len(begin), _AT_ONCE):
        batch = replay.windows(begin[start : start + _AT_ONCE]).to(device)
        share = len(batch.first) / len(begin)
        for name, value in model.loss(batch, options, step_generator(seed, start, device)).items():
            totals[name] = totals.get(name, 0.0) + float(value) * share
        led = ~batch.first
        real.append(batch.rewards[led])
        predicted.append(model.predicted_rewards(batch, step_generator(seed, start, device))[led])
    totals["reward_r2"] = explained(torch.cat(real), torch.cat(predicted))
    return totals


@torch.no_grad()
def set_latent_std(model: JointModel, replay: Replay, *, seed: int) -> None:
    """Set the unit in which errors of M's latents are given: their spread over windows of the data."""
    device = model.memory.device
    batch = replay.draw(_HELD_OUT_WINDOWS, np.random.default_rng([seed, 2**31 + 1])).to(device)
    features = model.observe(batch, step_generator(seed, 0, device)).features.flatten(0, 1)
    model.memory.latent_std.copy_(features.std(0).clamp(min=_LEAST_STD))


def new_joint_model(
    job: Job[RSSMOptions], cache: EpisodeCache, begin: Vision | None = None, *, bound: float | None = None
) -> JointModel:
    """V and M for the observations of `cache`; with a model to begin with, with its weights.

    Args:
        job: Options, actions, seed, device, the model to begin with.
        cache: The episodes as V and M are to see them.
        begin: V of the model to begin with, as far as it is fitted here.
        bound: The reward head's, of a fit that goes on, whatever rewards have come since; None takes the options' one,
            or what covers the data.

    Raises:
        ConfigurationError: Observations or rewards that they cannot take, or a model of other sizes to begin with.
    """
    options, shape = job.options, cache.observations.shape[1:]
    pictures = cache.observations.dtype == np.uint8
    check_pictures(shape, cache.observations.dtype, ConvAutoencoder)
    rewards = float(cache.rewards.min()), float(cache.rewards.max())
    if bound is None:
        bound = options.memory.reward_bound
        if bound is None:
            before = 0.0 if job.begin is None else float(job.begin.memory.config().get("reward_bound", 0.0))
            bound = max(reward_bound_for(*rewards), before)
        check_reward_range(options.memory.reward_head, bound, *rewards)
    with seeded_weights(job.seed):
        # How wide M's latents are is M's to say, and how wide embeddings are is V's
        embedding_size = 128 * options.network.depth if pictures else options.network.width
        memory = RSSM(embedding_size, job.action_space, **asdict(options.memory) | {"reward_bound": bound})
        vision: JointVision
        if pictures:
            vision = ConvAutoencoder(memory.latent_size, options.network.depth)
        else:
            vision = SymlogMLP(shape[0], memory.latent_size, options.network.width, standardised=True)
            vision.standardise(cache.observations)
    model = JointModel(vision, memory).to(job.device)
    if job.begin is not None:
        begin_with(model.vision, begin or job.begin.vision)
        begin_with(model.memory, job.begin.memory)
        model.memory.reward_head.respace(float(job.begin.memory.config()["reward_bound"]))
    return model
