"""Pictures that show what a model has learned: reconstructions, and open-loop dreams beside what really followed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import Noise
from dreamenv.world_model import WorldModel

Picture = NDArray[np.uint8]


def picture_sheet(rows: list[list[Picture]], *, scale: int = 2, gap: int = 2) -> Picture:
    """Pictures `[h, w, 3]` as a grid on white, each pixel `scale` times as large."""
    height, width = (side * scale + gap for side in rows[0][0].shape[:2])
    sheet = np.full((height * len(rows) + gap, width * max(map(len, rows)) + gap, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            large = picture.repeat(scale, 0).repeat(scale, 1)
            top, left = gap + i * height, gap + j * width
            sheet[top : top + large.shape[0], left : left + large.shape[1]] = large
    return sheet


@torch.no_grad()
def seen_latents(
    model: WorldModel,
    observations: NDArray[np.generic],
    actions: NDArray[np.generic],
    *,
    noise: torch.Generator | Noise,
) -> Tensor:
    """`[T+1, Z]`: what M holds of each observation `[T+1, ...]` of a real episode when it has seen it."""
    embeddings = model.encode(observations)
    moves = torch.from_numpy(np.array(actions)).to(model.device)
    state = model.memory.initial(embeddings[:1], noise=noise)
    latents = [model.memory.latent(state)]
    for step in range(len(moves)):
        following = embeddings[step + 1 : step + 2]
        state, _ = model.memory.observe(state, moves[step : step + 1], following, noise=noise)
        latents.append(model.memory.latent(state))
    return torch.cat(latents)


@torch.no_grad()
def reconstruct(model: WorldModel, frames: Picture) -> Picture:
    """What the model makes of frames `[N, H, W, 3]`, each as an episode's first: `[N, H, W, 3]`."""
    state = model.begin(frames, noise=torch.Generator(model.device).manual_seed(0))
    return model.vision.decode_uint8(model.memory.latent(state)).cpu().numpy()


@torch.no_grad()
def open_loop(
    model: WorldModel,
    observations: NDArray[np.generic],
    actions: NDArray[np.generic],
    *,
    context: int,
    horizon: int,
    noise: torch.Generator | Noise,
    temperature: float = 1.0,
    samples: int = 1,
) -> Tensor:
    """Dream `horizon` steps with the real actions, after `context` real steps of teacher forcing.

    Args:
        model: The world model.
        observations: `[T+1, ...]` of one real episode.
        actions: `[T, ...]`.
        context: Real steps M sees first.
        horizon: Dreamed steps; context + horizon may not exceed T.
        noise: Draws the dream.
        temperature: Of the dream.
        samples: Independent dreams of the same moment.

    Returns:
        Dreamed latents `[samples, horizon, Z]`; entry t belongs to observation context + 1 + t.
    """
    if context < 0 or horizon < 1 or context + horizon > len(actions):
        raise ConfigurationError(
            f"context {context} and horizon {horizon} do not fit into an episode of {len(actions)} actions"
        )
    memory = model.memory
    seen = model.encode(observations[: context + 1])
    moves = torch.from_numpy(np.array(actions[: context + horizon])).to(model.device)
    moves = moves.unsqueeze(1).expand(-1, samples, *moves.shape[1:])
    state = memory.initial(seen[:1].expand(samples, -1), noise=noise)
    for step in range(context):
        state, _ = memory.observe(state, moves[step], seen[step + 1 : step + 2].expand(samples, -1), noise=noise)
    latents = []
    for step in range(context, context + horizon):
        state, _ = memory.imagine(state, moves[step], noise=noise, temperature=temperature)
        latents.append(memory.latent(state))
    return torch.stack(latents, dim=1)


def open_loop_panel(
    model: WorldModel,
    cache: EpisodeCache,
    episode: int,
    *,
    context: int,
    horizons: Sequence[int] = (1, 5, 15, 50),
    seed: int = 0,
    samples: int = 2,
    temperature: float = 1.0,
) -> Picture:
    """What really followed in the first row, the model's view of it in the second, `samples` open-loop dreams below; a
    column a horizon, the moment the dream begins at in the first column."""
    first, length = int(cache.first[episode]), int(cache.lengths[episode])
    observations = np.asarray(cache.observations[first : first + length + 1])
    begin = int(cache.first_step[episode])
    actions = cache.actions[begin : begin + length]
    dreamed = open_loop(
        model,
        observations,
        actions,
        context=context,
        horizon=max(horizons),
        noise=torch.Generator(model.device).manual_seed(seed),
        temperature=temperature,
        samples=samples,
    )
    moments = [context, *(context + h for h in horizons)]
    held = seen_latents(
        model,
        observations[: moments[-1] + 1],
        actions[: moments[-1]],
        noise=torch.Generator(model.device).manual_seed(seed),
    )
    with torch.no_grad():
        seen = model.vision.decode_uint8(held[moments]).cpu().numpy()
        dreams = [model.vision.decode_uint8(each[[h - 1 for h in horizons]]).cpu().numpy() for each in dreamed]
    return picture_sheet([list(observations[moments]), list(seen), *([seen[0], *pictures] for pictures in dreams)])
