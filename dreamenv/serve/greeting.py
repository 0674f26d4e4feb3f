"""The first message to a page: what it needs to know to draw itself."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from typing import Any

from dreamenv.play.fan import FUTURES
from dreamenv.play.game import RATES, TEMPERATURES, Game
from dreamenv.play.latents import start_latents
from dreamenv.world_model import WorldModel

FRAMES_PER_SECOND = 30
# In standard deviations, to either side of the mean, and the least of a deviation
_SLIDER_REACH = 3.0
_LEAST_DEVIATION = 0.05


def greeting(game: Game, *, real_allowed: bool) -> dict[str, Any]:
    """The message `hello`."""
    opening = game.opening
    edits = game.edits_latents
    return {
        "type": "hello",
        "id": opening.id,
        "real_id": opening.model.real.id,
        "real_allowed": real_allowed,
        "agent": opening.agent_name,
        "yardsticks": dict(opening.yardsticks),
        "keys": game.driver.keys.labels,
        "temperature": game.temperature,
        "temperatures": list(TEMPERATURES),
        "rate": game.rate,
        "rates": list(RATES),
        "frames_per_second": FRAMES_PER_SECOND,
        "latent_size": opening.model.memory.latent_size,
        "futures": FUTURES,
        "has_mixture": game.has_mixture,
        "slider_limits": _slider_limits(opening.model) if edits else [],
        "slider_deviations": _SLIDER_REACH,
        "latent_order": list(opening.latent_order) if edits else [],
        "documentation": _documentation(),
    }


def _slider_limits(model: WorldModel) -> list[list[float]]:
    """Ends of the latents' sliders, by the spread of start states; those in mid-episode are spread wider."""
    latents = start_latents(model)
    mean, reach = latents.mean(0), _SLIDER_REACH * latents.std(0, correction=0).clamp(min=_LEAST_DEVIATION)
    return [[round(float(m - r), 3), round(float(m + r), 3)] for m, r in zip(mean, reach, strict=True)]


@cache
def _documentation() -> str | None:
    """The address of the documentation that the installed package names, if it names one."""
    try:
        found = importlib.metadata.metadata("dreamenv").get_all("Project-URL") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for entry in found:
        label, _, address = entry.partition(",")
        if label.strip().lower() == "documentation" and address.strip().startswith("https://"):
            return address.strip()
    return None
