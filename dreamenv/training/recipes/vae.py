"""A VAE as V, fitted to pictures before M is fitted to what it encodes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.noise.base import seeded_weights
from dreamenv.training.fit import Scalars
from dreamenv.training.fit_vision import FitVisionOptions, fit_vision
from dreamenv.training.panels import Picture, picture_sheet
from dreamenv.training.recipes.base import Job, begin_with, check_options
from dreamenv.vision.base import Vision
from dreamenv.vision.identity import IdentityVision
from dreamenv.vision.vae import ConvVAE


@dataclass(frozen=True)
class VisionOptions:
    """Keyword arguments of `ConvVAE`; vectors have no use for them."""

    latent_size: int = 32
    channels: int = 32
    reconstruction_std: float = 0.1
    beta: float = 1.0
    rare_colour_exponent: float = 0.0

    def __post_init__(self) -> None:
        check_options(ConvVAE, self)


def fitted_vision(job: Job[Any], options: VisionOptions, fit: FitVisionOptions) -> Vision:
    """V of its own: a VAE fitted to the job's pictures, or the identity for vectors.

    Stage: "vision". Checkpoint: `vision/` in the job's folder. With a model to begin with, 0 steps keep its V.
    """
    cache = job.cache
    if cache.observations.dtype != np.uint8:
        return IdentityVision(cache.observations.shape[1])
    with seeded_weights(job.seed):
        vision = ConvVAE(**asdict(options))
    vision.to(job.device)
    if job.begin is not None:
        begin_with(vision, job.begin.vision)
        if fit.steps == 0:
            return vision
    frames = _sample_frames(cache)

    def progress(step: int, steps: int, scalars: Scalars) -> None:
        job.report("vision", step, steps, scalars)
        job.show("vision/reconstructions", step, lambda: _reconstruction_panel(vision, frames))

    fit_vision(
        vision,
        cache,
        job.folder / "vision",
        fit,
        seed=job.seed,
        settings=job.given,
        progress=progress,
    )
    return vision


@torch.no_grad()
def _reconstruction_panel(vision: Vision, frames: Picture) -> Picture:
    """Frames in the first row, what V decodes of what it encodes in the second."""
    device = next(vision.parameters()).device
    seen = vision.decode_uint8(vision.encode(torch.from_numpy(frames).to(device))).cpu().numpy()
    return picture_sheet([list(frames), list(seen)])


def _sample_frames(cache: EpisodeCache, count: int = 10) -> Picture:
    """Frames spread over the held-out episodes."""
    episodes = np.flatnonzero(held_out_episodes(cache))
    chosen = episodes[np.linspace(0, len(episodes) - 1, count).astype(int)]
    share = np.linspace(0.1, 0.9, count)
    return np.asarray(cache.observations[cache.first[chosen] + (share * cache.lengths[chosen]).astype(int)])
