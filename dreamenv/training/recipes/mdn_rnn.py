"""World Models (Ha & Schmidhuber 2018): V first, then an MDN-RNN over what V encodes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np

from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.memory.heads import check_reward_range, reward_bound_for
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import seeded_weights
from dreamenv.tensor_files import tensors_fingerprint
from dreamenv.training.fit import Scalars
from dreamenv.training.fit_vision import FitVisionOptions
from dreamenv.training.panels import open_loop_panel
from dreamenv.training.recipes.base import Fitted, Job, Recipe, begin_with, check_options, check_pictures, steps_for
from dreamenv.training.recipes.fit_mdn_rnn import FitMemoryOptions, fit_memory, set_latent_scale
from dreamenv.training.recipes.vae import VisionOptions, fitted_vision
from dreamenv.training.sequences import LatentEpisodes, encode_episodes
from dreamenv.vision.base import Vision
from dreamenv.vision.vae import ConvVAE


@dataclass(frozen=True)
class MemoryOptions:
    """Keyword arguments of `MDNRNN`; a `reward_bound` of None covers the rewards of the data."""

    hidden_size: int = 256
    mixtures: int = 5
    width: int = 0
    components: str = "per_dimension"
    cell_features: bool = False
    reward_head: str = "two_hot"
    reward_bound: float | None = None
    reward_sees_next: bool = False
    termination: str = "sample"
    termination_weight: float = 1.0
    dropout: float = 0.0
    dropout_in_dream: bool = False

    def __post_init__(self) -> None:
        check_options(MDNRNN, self)


@dataclass(frozen=True)
class RefitOptions:
    """What differs in a later fit, which starts from the model before.

    Attributes:
        vision_steps: Optimiser steps of V; 0 keeps it as it is.
        memory_steps: Optimiser steps of M.
    """

    vision_steps: int = 1500
    memory_steps: int = 1500

    def __post_init__(self) -> None:
        if self.vision_steps < 0 or self.memory_steps < 1:
            raise ConfigurationError(
                "vision_steps must be at least 0 and memory_steps at least 1, got "
                f"{self.vision_steps} and {self.memory_steps}"
            )


@dataclass(frozen=True)
class MDNRNNOptions:
    """Hyperparameters of `MDNRNNRecipe`.

    Attributes:
        vision: The sizes and the loss of V.
        memory: The sizes and the heads of M.
        fit_vision: How V is fitted; with a model to begin with, 0 steps keep its V as it is.
        fit_memory: How M is fitted.
        refit: A later fit.
        fresh_memory: With a model to begin with, take its V alone: M begins anew.
    """

    vision: VisionOptions = field(default_factory=VisionOptions)
    memory: MemoryOptions = field(default_factory=MemoryOptions)
    fit_vision: FitVisionOptions = field(default_factory=FitVisionOptions)
    fit_memory: FitMemoryOptions = field(default_factory=FitMemoryOptions)
    refit: RefitOptions = field(default_factory=RefitOptions)
    fresh_memory: bool = False


class MDNRNNRecipe(Recipe[MDNRNNOptions]):
    """A VAE fitted to frames, and an MDN-RNN fitted to sequences of its latents; vectors are their own latents.

    Stages: "vision" (pictures only), "encode", "memory". Checkpoints: `vision/` and `memory/` in the job's folder.
    """

    options_type = MDNRNNOptions

    def check_spaces(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], options: MDNRNNOptions
    ) -> None:
        check_pictures(observation_space.shape or (), observation_space.dtype, ConvVAE)

    def fit(self, job: Job[MDNRNNOptions]) -> Fitted:
        # Before anything is fitted
        check_reward_range(job.options.memory.reward_head, _reward_bound(job), *_rewards(job.cache))
        vision = fitted_vision(job, job.options.vision, job.options.fit_vision)
        latents = encode_episodes(vision, job.cache, progress=lambda row, rows: job.progress("encode", row, rows, {}))
        memory, held_out = _fitted_memory(job, vision, latents)
        return Fitted(vision, memory, held_out, latents.embed)

    def refit(self, options: MDNRNNOptions, *, replayed: int | None = None) -> MDNRNNOptions:
        vision, memory = options.fit_vision, options.fit_memory
        vision_steps, memory_steps = options.refit.vision_steps, options.refit.memory_steps
        if replayed is not None:
            vision_steps = steps_for(replayed, vision.batch_size) if vision_steps else 0
            memory_steps = steps_for(replayed, memory.batch_size * memory.sequence_length)
        return replace(
            options,
            fit_vision=replace(vision, steps=vision_steps),
            fit_memory=replace(memory, steps=memory_steps),
        )


def _fitted_memory(job: Job[MDNRNNOptions], vision: Vision, latents: LatentEpisodes) -> tuple[MDNRNN, Scalars]:
    cache, options = job.cache, job.options
    with seeded_weights(job.seed):
        sizes = asdict(options.memory) | {"reward_bound": _reward_bound(job)}
        memory = MDNRNN(vision.latent_size, job.action_space, **sizes).to(job.device)
    if job.begin is not None and not options.fresh_memory:
        begin_with(memory, job.begin.memory)
        memory.reward_head.respace(float(job.begin.memory.config()["reward_bound"]))
    episode = _panel_episode(cache) if vision.is_image else None

    def progress(step: int, steps: int, scalars: Scalars) -> None:
        job.report("memory", step, steps, scalars)
        if episode is not None:
            model, number = job.world_model(vision, memory), episode
            job.show("memory/open_loop", step, lambda: open_loop_panel(model, cache, number, context=10))

    active = set_latent_scale(memory, latents, sample=options.fit_memory.latents_as != "mean")
    job.progress("memory", 0, 0, {"active_latents": float(active)})
    fitted = fit_memory(
        memory,
        cache,
        latents,
        job.folder / "memory",
        options.fit_memory,
        seed=job.seed,
        settings={
            **job.given,
            "fresh_memory": options.fresh_memory,
            "vision_weights": tensors_fingerprint(vision.state_dict()),
        },
        progress=progress,
    )
    return memory, fitted.best


def _reward_bound(job: Job[MDNRNNOptions]) -> float:
    """The reward head's: as asked for, or what covers the data and what a model to begin with covers."""
    if job.options.memory.reward_bound is not None:
        return job.options.memory.reward_bound
    found = reward_bound_for(*_rewards(job.cache))
    fresh = job.begin is None or job.options.fresh_memory
    before = None if fresh or job.begin is None else job.begin.memory.config().get("reward_bound")
    return found if before is None else max(found, float(before))


def _rewards(cache: EpisodeCache) -> tuple[float, float]:
    """The least and the largest."""
    return float(cache.rewards.min()), float(cache.rewards.max())


def _panel_episode(cache: EpisodeCache, needed: int = 61) -> int | None:
    """The first held-out episode long enough for an open-loop panel."""
    fit = np.flatnonzero(held_out_episodes(cache) & (cache.lengths >= needed))
    return int(fit[0]) if len(fit) else None
