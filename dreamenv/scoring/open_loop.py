"""Errors of open-loop dreams: what M dreams under the real actions, compared with what really followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError
from dreamenv.memory.states import select
from dreamenv.scoring.horizons import check_horizons
from dreamenv.scoring.teacher_forcing import Forced
from dreamenv.world_model import WorldModel

_MOMENTS_AT_ONCE = 64


@dataclass(frozen=True)
class OpenLoopRow:
    """Mean squared errors after `horizon` dreamed actions, over all moments from which so many really followed.

    The dream's point prediction is the mean of the sampled dreams, of their latents and of their decoded pictures.
    "No change" predicts the present. Latents are in units of M's scale, against the latent that M holds of what
    followed when it has seen it; pictures are in [0, 1], against the real frames, so that they hold V's error too.
    None: no moment, or no pictures.

    Attributes:
        horizon: Dreamed actions.
        moments: Moments compared.
        latent_mse: Of the mean of the samples.
        latent_mse_sample: Of a single sample, on average.
        latent_mse_no_change: Of the present latent.
        pixel_mse: Of the mean of the decoded samples.
        pixel_mse_sample: Of a single decoded sample, on average.
        pixel_mse_no_change: Of V's picture of the present.
        pixel_mse_frame_no_change: Of the present frame itself.
        pixel_mse_reconstruction: Of V's picture of what followed: no dream can be expected to do better.
    """

    horizon: int
    moments: int
    latent_mse: float | None = None
    latent_mse_sample: float | None = None
    latent_mse_no_change: float | None = None
    pixel_mse: float | None = None
    pixel_mse_sample: float | None = None
    pixel_mse_no_change: float | None = None
    pixel_mse_frame_no_change: float | None = None
    pixel_mse_reconstruction: float | None = None


@torch.no_grad()
def open_loop_errors(
    model: WorldModel,
    forced: Forced,
    *,
    horizons: Sequence[int],
    samples: int,
    seed: int = 0,
    temperature: float = 1.0,
) -> tuple[OpenLoopRow, ...]:
    """Errors by horizon of dreams from every moment of `forced`, a batch of moments at once.

    The dreams are those that environments play, by the memory's stepper. A last observation that is not a real one (see
    `Episode.final_observation_valid`) is never compared.

    Args:
        model: The world model.
        forced: Real episodes and M's states at moments in them.
        horizons: Dreamed actions after which to compare.
        samples: Dreams of each moment.
        seed: Of their noise.
        temperature: Of the dreams.

    Raises:
        ConfigurationError: A memory that has no `latent_std`.
    """
    horizons = check_horizons(horizons)
    noise = torch.Generator(model.device).manual_seed(seed)
    # In the precision of a single dream, so that the errors depend neither on the batch nor on the processor
    stepper = model.memory.stepper(_MOMENTS_AT_ONCE * samples, precision="float32")
    errors: dict[int, list[dict[str, NDArray[np.float64]]]] = {horizon: [] for horizon in horizons}
    # Those with the most to follow first: a batch ends with its first row
    room = np.array([forced.episodes[e].usable_steps - step for e, step in forced.moments.tolist()], np.int64)
    order = np.argsort(-room, kind="stable")
    for begin in range(0, len(order), _MOMENTS_AT_ONCE):
        rows = order[begin : begin + _MOMENTS_AT_ONCE]
        moments = select(forced.state, torch.from_numpy(rows).to(model.device))
        state = model.memory.branch(moments, samples, noise=noise)
        for step in range(min(int(room[rows[0]]), horizons[-1])):
            action = torch.from_numpy(np.stack([_action(forced, row, step) for row in rows.tolist()]))
            actions = action.to(model.device).repeat_interleave(samples, 0)
            state, _ = stepper(state, actions, noise=noise, temperature=temperature)
            if step + 1 in errors:
                follows = rows[room[rows] > step]
                dreamed = model.memory.latent(state)[: len(follows) * samples].unflatten(0, (-1, samples))
                errors[step + 1].append(_errors(model, forced, follows, step + 1, dreamed))
    return tuple(_row(horizon, parts) for horizon, parts in errors.items())


def _action(forced: Forced, row: int, step: int) -> NDArray[np.generic]:
    """The real action; the last one again behind the episode's end, where nothing is compared."""
    episode, moment = forced.moments[row]
    actions = forced.episodes[episode].actions
    return np.asarray(actions[min(moment + step, len(actions) - 1)])


def _errors(
    model: WorldModel, forced: Forced, rows: NDArray[np.int64], horizon: int, dreamed: Tensor
) -> dict[str, NDArray[np.float64]]:
    """Squared errors `[rows]` of dreamed latents `[rows, samples, Z]`."""
    where = [(int(episode), int(step)) for episode, step in forced.moments[rows]]
    present = torch.stack([forced.latents[episode][step] for episode, step in where])
    real = torch.stack([forced.latents[episode][step + horizon] for episode, step in where])
    scale = _scale(model)
    latents = dreamed.cpu()
    pictures = model.vision.draws
    found = {
        "latent_mse": _mean_square((latents.mean(1) - real) / scale),
        "latent_mse_sample": _mean_square((latents - real.unsqueeze(1)) / scale),
        "latent_mse_no_change": _mean_square((present - real) / scale),
    }
    return found | (_pixel_errors(model, forced, where, horizon, dreamed) if pictures else {})


def _scale(model: WorldModel) -> Tensor:
    """`[Z]`: the unit of latents."""
    scale = getattr(model.memory, "latent_std", None)
    if not isinstance(scale, Tensor):
        raise ConfigurationError(
            f"{type(model.memory).__name__}.latent_std is {scale!r}; errors of latents are given in units of their "
            "spread in the data, so a memory has to hold it, as a buffer [Z]"
        )
    return scale.cpu()


def _pixel_errors(
    model: WorldModel, forced: Forced, where: list[tuple[int, int]], horizon: int, dreamed: Tensor
) -> dict[str, NDArray[np.float64]]:
    """The same of pictures; moment by moment, since the samples' pictures together are large."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    for samples, (episode, step) in zip(dreamed, where, strict=True):
        both = [step, step + horizon]
        present, real = torch.from_numpy(forced.episodes[episode].observations[both]).to(model.device).float() / 255
        seen, follows = model.vision.decode(forced.latents[episode][both].to(model.device)).clamp(0, 1)
        pictures = model.vision.decode(samples).clamp(0, 1)
        for name, difference in (
            ("pixel_mse", pictures.mean(0) - real),
            ("pixel_mse_sample", pictures - real),
            ("pixel_mse_no_change", seen - real),
            ("pixel_mse_frame_no_change", present - real),
            ("pixel_mse_reconstruction", follows - real),
        ):
            found.setdefault(name, []).append(_mean_square(difference.unsqueeze(0)))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _mean_square(difference: Tensor) -> NDArray[np.float64]:
    """`[N, ...]` to `[N]`."""
    return difference.double().square().flatten(1).mean(1).cpu().numpy()


def _row(horizon: int, parts: list[dict[str, NDArray[np.float64]]]) -> OpenLoopRow:
    if not parts:
        return OpenLoopRow(horizon, 0)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return OpenLoopRow(
        horizon, len(joined["latent_mse"]), **{name: float(values.mean()) for name, values in joined.items()}
    )
