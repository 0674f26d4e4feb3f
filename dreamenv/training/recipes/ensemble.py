"""PETS (Chua et al. 2018): a probabilistic ensemble over vectors that hold all there is to know."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.noise.base import seeded_weights
from dreamenv.training.explained import explained
from dreamenv.training.fit import Scalars
from dreamenv.training.recipes.base import Fitted, Job, Recipe, begin_with, check_options, steps_for
from dreamenv.training.recipes.fit_ensemble import EnsembleFitOptions, fit_ensemble
from dreamenv.training.sequences import encode_episodes
from dreamenv.training.transitions import Transitions
from dreamenv.vision.identity import IdentityVision


@dataclass(frozen=True)
class EnsembleMemoryOptions:
    """Keyword arguments of `ProbabilisticEnsemble`."""

    members: int = 7
    elites: int = 5
    hidden_size: int = 200
    layers: int = 4
    propagation: str = "step"
    termination: str = "sample"
    termination_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.members or min(self.hidden_size, self.layers) < 1:
            raise ConfigurationError(
                "need 1 <= elites <= members, and hidden_size and layers of at least 1; got "
                f"{self.elites}, {self.members}, {self.hidden_size}, {self.layers}"
            )
        check_options(ProbabilisticEnsemble, self)


@dataclass(frozen=True)
class EnsembleOptions:
    """Hyperparameters of `EnsembleRecipe`.

    Attributes:
        memory: The sizes of M, and how it dreams.
        fit: How M is fitted; its own held-out share of the training episodes' transitions stops the fit.
    """

    memory: EnsembleMemoryOptions = field(default_factory=EnsembleMemoryOptions)
    fit: EnsembleFitOptions = field(default_factory=EnsembleFitOptions)


class EnsembleRecipe(Recipe[EnsembleOptions]):
    """Members fitted to bootstrap samples of the transitions; the observation is the latent.

    Stage: "memory", in epochs. Checkpoint: `memory/` in the job's folder.
    """

    options_type = EnsembleOptions
    disagrees = True

    def check_spaces(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], options: EnsembleOptions
    ) -> None:
        _check_vectors(observation_space.shape or ())

    def fit(self, job: Job[EnsembleOptions]) -> Fitted:
        cache = job.cache
        _check_vectors(cache.observations.shape[1:])
        size = cache.observations.shape[1]
        vision = IdentityVision(size)
        with seeded_weights(job.seed):
            memory = ProbabilisticEnsemble(size, job.action_space, **asdict(job.options.memory)).to(job.device)
        if job.begin is not None:
            begin_with(memory, job.begin.memory)
        latents = encode_episodes(vision, cache)
        aside = held_out_episodes(cache)
        fit_ensemble(
            memory,
            Transitions.of_episodes(cache, latents, ~aside),
            job.options.fit,
            seed=job.seed,
            checkpoint=job.folder / "memory" / "checkpoint.safetensors",
            settings=job.given,
            progress=lambda epoch, epochs, scalars: job.report("memory", epoch, epochs, scalars),
        )
        return Fitted(vision, memory, _held_out(memory, Transitions.of_episodes(cache, latents, aside)), latents.embed)

    def refit(self, options: EnsembleOptions, *, replayed: int | None = None) -> EnsembleOptions:
        if replayed is None:
            return options
        return replace(options, fit=replace(options.fit, max_steps=steps_for(replayed, options.fit.batch_size)))


@torch.no_grad()
def _held_out(memory: ProbabilisticEnsemble, data: Transitions) -> Scalars:
    """Figures of the elites' expectation on held-out episodes: `error`, the mean squared error of the change of the
    latent in its standard deviations; `reward_r2`; `termination`, nats of the head."""
    parts = (torch.from_numpy(np.ascontiguousarray(part)).to(memory.latent_std.device) for part in vars(data).values())
    latents, actions, following, rewards, terminated = parts
    mean = memory.gaussian(latents, actions).mean[memory.elite_members].mean(0) * memory.change_std + memory.change_mean
    error = ((mean[:, :-1] - (following - latents)) / memory.change_std[:-1]).square().mean()
    ends = memory.termination_loss(latents, actions, following, terminated.float()).mean()
    return {"error": float(error), "reward_r2": explained(rewards, mean[:, -1]), "termination": float(ends)}


def _check_vectors(shape: tuple[int, ...]) -> None:
    if len(shape) != 1:
        raise ConfigurationError(
            f"an ensemble takes vectors, got observations of shape {shape}. Use the recipe 'mdn_rnn' or 'rssm'."
        )
