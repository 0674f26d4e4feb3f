"""Whether weights may be kept in half the bytes: only where the dream stays the same."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel
from dreamenv.vision.base import Vision

# By how much of its unit half precision may move a figure in nine of ten rows; in the tenth, a draw may fall otherwise
MOST_CHANGE = 0.02
_SHARE = 0.9
_ROWS = 256
_LARGEST = torch.finfo(torch.float16).max


def half_weights(module: nn.Module) -> dict[str, Tensor]:
    """The module's state, its parameters in float16 where their numbers fit; scales and means stay as they are."""
    parameters = {name for name, _ in module.named_parameters()}
    return {
        name: part.half() if name in parameters and _fits(part) else part for name, part in module.state_dict().items()
    }


def half_states(states: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of memory states by name, in float16 where their numbers fit."""
    return {name: part.half() if _fits(part) else part for name, part in states.items()}


@torch.no_grad()
def check_half(
    vision: Vision,
    memory: MemoryModel[Any],
    action_space: Space[Any],
    starts: Mapping[str, Tensor],
    saved: Mapping[str, Tensor],
) -> None:
    """Refuse half precision where it changes what is dreamed next.

    From the start states, M with all its digits and M without take the same step with the same noise. Latents may move
    by `MOST_CHANGE` of `latent_std`, rewards and probabilities of the end of their standard deviation over the start
    states, pictures of a quarter of the range from black to white.

    Args:
        vision, memory: In full precision.
        action_space: Of the model.
        starts: Start states as `start_tensors` names them.
        saved: The same as they are to be saved.

    Raises:
        ConfigurationError: A figure moves further, or is not finite any more.
    """
    halved = copy.deepcopy(memory), copy.deepcopy(vision)
    for module in halved:
        module.load_state_dict(half_weights(module))
    rows, lowered = (
        {name: _some(part).to(memory.device, _full_type(part)) for name, part in each.items()}
        for each in (starts, saved)
    )
    if len(rows["initial"]) == 0:
        return
    full = _figures(vision, memory, action_space, rows)
    half = _figures(halved[1], halved[0], action_space, lowered)
    for name, (figure, unit) in full.items():
        moved = (half[name][0] - figure).abs().double() / unit
        change = float(torch.quantile(moved.flatten(1) if moved.ndim > 1 else moved[:, None], _SHARE, dim=0).max())
        if not change <= MOST_CHANGE:
            raise ConfigurationError(
                f"half=True moves the {name} by {100 * change:.1f}% of its unit, allowed are {100 * MOST_CHANGE:g}%: "
                "save this model with half=False"
            )


def _figures(
    vision: Vision, memory: MemoryModel[Any], action_space: Space[Any], rows: Mapping[str, Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Figures of the next moment by name, each with the unit in which its changes are measured."""
    noise = torch.Generator(memory.device).manual_seed(0)
    states = {"first": memory.initial(rows["initial"], noise=noise)}
    for kind in ("replay", "settled"):
        parts = {name.removeprefix(f"{kind}."): part for name, part in rows.items() if name.startswith(f"{kind}.")}
        if parts:
            states[kind] = memory.state_from_tensors(parts)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    latent_unit = memory.latent_std.clamp(min=1e-6)
    for kind, each in states.items():
        noise = torch.Generator(memory.device).manual_seed(0)
        state = memory.branch(each, 1, noise=noise)
        latent = memory.latent(state)
        actions = _actions(action_space, len(latent), memory.device)
        following, prediction = memory.imagine(state, actions, noise=noise, temperature=1.0)
        found |= {
            f"latents of {kind} start states": (latent, latent_unit),
            f"latents behind {kind} start states": (memory.latent(following), latent_unit),
            f"reward behind {kind} start states": _with_spread(prediction.reward),
            f"probability of the end behind {kind} start states": _with_spread(prediction.termination_probability),
        }
        if vision.draws:
            found[f"pictures of {kind} start states"] = (vision.decode(latent[:16]), torch.tensor(0.25))
    return found


def _with_spread(figure: Tensor) -> tuple[Tensor, Tensor]:
    """`figure` and its standard deviation; one that hardly varies is measured by its size."""
    return figure, figure.std(correction=0) + 1e-2 * figure.abs().mean() + 1e-3


def _actions(space: Space[Any], count: int, device: torch.device) -> Tensor:
    own = copy.deepcopy(space)
    own.seed(0)
    return torch.from_numpy(np.stack([np.asarray(own.sample()) for _ in range(count)])).to(device)


def _some(part: Tensor) -> Tensor:
    return part[:: max(1, len(part) // _ROWS)][:_ROWS]


def _full_type(part: Tensor) -> torch.dtype:
    return torch.float32 if part.is_floating_point() else part.dtype


def _fits(part: Tensor) -> bool:
    return part.is_floating_point() and (part.numel() == 0 or bool(part.abs().max() < _LARGEST))
