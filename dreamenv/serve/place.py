"""A moment of a dream as text, short enough for a link."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
import torch

from dreamenv.errors import ConfigurationError
from dreamenv.memory.states import flatten_state
from dreamenv.world_model import WorldModel


def place_of(state: Any) -> str:
    """A memory state of batch 1 as text: base64 for addresses, of half-precision numbers. They differ from the state by
    a thousandth of it."""
    numbers = flatten_state(state)[0].cpu().numpy().astype("<f2")
    return base64.urlsafe_b64encode(numbers.tobytes()).decode("ascii").rstrip("=")


def state_at(model: WorldModel, place: str) -> Any:
    """The memory state of batch 1 that `place_of` wrote.

    Raises:
        ConfigurationError: Not such a text, or one of another model.
    """
    try:
        content = base64.b64decode(place + "=" * (-len(place) % 4), altchars=b"-_", validate=True)
        numbers = np.frombuffer(content, "<f2").astype(np.float32)
    except (binascii.Error, ValueError):
        raise ConfigurationError("begin: the moment in the link cannot be read; copy the link again") from None
    expected = model.observation_space("state").shape[0]
    if len(numbers) != expected or not np.isfinite(numbers).all():
        raise ConfigurationError(
            f"begin: the moment in the link has {len(numbers)} numbers, expected {expected} finite ones: it is of "
            "another dream"
        )
    return model.memory_state(torch.from_numpy(numbers[None]).to(model.device))
