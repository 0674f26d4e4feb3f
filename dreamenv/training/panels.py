"""Pictures that show what V and M have learned: reconstructions, and open-loop dreams beside what really followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel
from dreamenv.vision.base import Vision

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


@torch.inference_mode()
def reconstruct(vision: Vision, frames: Picture) -> Picture:
    """V's reconstruction `[N, H, W, 3]` of frames `[N, H, W, 3]`."""
    device = next(vision.parameters()).device
    return vision.decode_uint8(vision.encode(torch.from_numpy(frames).to(device))).cpu().numpy()


def reconstruction_panel(vision: Vision, frames: Picture) -> Picture:
    """Frames in the first row, V's reconstructions in the second."""
    return picture_sheet([list(frames), list(reconstruct(vision, frames))])


@torch.inference_mode()
def open_loop(
    vision: Vision,
    memory: MemoryModel[Any],
    observations: NDArray[np.generic],
    actions: NDArray[np.generic],
    *,
    context: int,
    horizon: int,
    generator: torch.Generator,
    temperature: float = 1.0,
    samples: int = 1,
) -> Tensor:
    """Dream `horizon` steps with the real actions, after `context` real steps of teacher forcing.

    Args:
        observations: `[T+1, ...]` of one real episode.
        actions: `[T, ...]`.
        context: Real steps M sees first.
        horizon: Dreamed steps; context + horizon may not exceed T.
        generator: Draws the dream.
        temperature: Of the dream.
        samples: Independent dreams of the same moment.

    Returns:
        Dreamed latents `[samples, horizon, Z]`; entry t stands beside observation context + 1 + t.
    """
    if context < 0 or horizon < 1 or context + horizon > len(actions):
        raise ConfigurationError(
            f"context {context} and horizon {horizon} do not fit into an episode of {len(actions)} actions"
        )
    device = memory.device
    seen = vision.encode(torch.from_numpy(np.array(observations[: context + 1])).to(device))
    moves = torch.from_numpy(np.array(actions[: context + horizon])).to(device)
    moves = moves.unsqueeze(1).expand(-1, samples, *moves.shape[1:])
    state = memory.initial(seen[:1].expand(samples, -1), noise=generator)
    for step in range(context):
        state, _ = memory.observe(state, moves[step], seen[step + 1 : step + 2].expand(samples, -1), noise=generator)
    latents = []
    for step in range(context, context + horizon):
        state, _ = memory.imagine(state, moves[step], noise=generator, temperature=temperature)
        latents.append(memory.latent(state))
    return torch.stack(latents, dim=1)


def open_loop_panel(
    vision: Vision,
    memory: MemoryModel[Any],
    cache: EpisodeCache,
    episode: int,
    *,
    context: int,
    horizons: tuple[int, ...] = (1, 5, 15, 50),
    seed: int = 0,
    samples: int = 2,
    temperature: float = 1.0,
) -> Picture:
    """What really followed in the first row, V's view of it in the second, `samples` open-loop dreams below; a column
    a horizon, the moment the dream begins at in the first column."""
    first, length = int(cache.first[episode]), int(cache.lengths[episode])
    observations = np.asarray(cache.observations[first : first + length + 1])
    begin = int(cache.first_step[episode])
    dreamed = open_loop(
        vision,
        memory,
        observations,
        cache.actions[begin : begin + length],
        context=context,
        horizon=max(horizons),
        generator=torch.Generator(memory.device).manual_seed(seed),
        temperature=temperature,
        samples=samples,
    )
    moments = [context, *(context + h for h in horizons)]
    real = observations[moments]
    rows = [list(real), list(reconstruct(vision, real))]
    for sample in dreamed:
        pictures = vision.decode_uint8(sample[[h - 1 for h in horizons]]).cpu().numpy()
        rows.append([rows[1][0], *pictures])
    return picture_sheet(rows)
