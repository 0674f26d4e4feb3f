"""A round's decisions in parts, each of some dreams and each by whoever is free: decisions alone come back."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.decisions import Decisions, Expert, decide_in_dream
from dreamenv.agents.policy_value import PolicyValue
from dreamenv.envs.elsewhere import PackedModel, one_thread
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.planners.base import Planner
from dreamenv.workers import Place, run_tasks
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class _Setup:
    """What every part of a round is dreamed with; the planner is guided by the student already."""

    model: PackedModel
    planner: Planner
    student: PolicyValue | None
    how: Expert
    seed: list[int]


@dataclass(frozen=True)
class _Part:
    """Dreams `first` to `last - 1` of a round."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"dreams {self.first} to {self.last - 1}"


def decide_in_parts(
    world_model: WorldModel,
    planner: Planner,
    student: PolicyValue | None,
    how: Expert,
    *,
    size: int,
    place: Place,
    seed: list[int],
    progress: Callable[[int, int], None],
    report: Callable[[str], None],
) -> Decisions:
    """Decisions as `decide_in_dream` makes them, of the same number and in the same order, by workers at `place`.

    Model, planner and student go to each machine once.

    Args:
        world_model, planner, student, how: As for `decide_in_dream`.
        size: Dreams of a part. Rounding and random numbers depend on it, and on nothing else that is chosen here.
        place: Where.
        seed: Of the round; a part's random numbers follow from it and from the part's first dream.
        progress: Called after each part with the steps of all dreams that are through, and with their number.
        report: Receives a line whenever a worker dies.

    Raises:
        ConfigurationError: A planner that local processes cannot be given.
        NonFiniteError: A dreamed return that is not finite; the dreams are named.
    """
    if not (place.here or place.elsewhere):
        _check_portable(planner)
    parts = [_Part(first, min(first + size, how.dreams)) for first in range(0, how.dreams, size)]
    steps = -(-how.decisions // how.dreams)
    setup = _Setup(PackedModel.of(world_model, far=place.elsewhere), planner, student, how, seed)
    found: dict[_Part, list[NDArray[Any]]] = {}
    for part, decided in run_tasks(parts, _make_runner, setup, workers=place, report=report):
        found[part] = decided
        progress(steps * sum(part.last - part.first for part in found) // how.dreams, steps)
    by_field = zip(*(found[part] for part in parts), strict=True)
    return Decisions(*(torch.from_numpy(np.concatenate(arrays, 1)).flatten(0, 1) for arrays in by_field))


def _check_portable(planner: Planner) -> None:
    try:
        pickle.dumps(planner)
    except Exception as error:
        raise ConfigurationError(
            f"planner {planner.scheme!r} cannot be handed to worker processes ({error}); give it functions "
            "of a module, or take workers=0"
        ) from error


def _make_runner(setup: _Setup) -> Callable[[_Part], list[NDArray[Any]]]:
    model = setup.model.unpack()
    steps = -(-setup.how.decisions // setup.how.dreams)

    def run(part: _Part) -> list[NDArray[Any]]:
        """Each field of the decisions as `[steps, dreams, ...]`: arrays, since tensors stay in this process."""
        rows = part.last - part.first
        mixed = np.random.SeedSequence(setup.seed, spawn_key=(part.first,)).generate_state(1, np.uint64)[0]
        try:
            with one_thread():
                decisions = decide_in_dream(
                    model,
                    setup.planner,
                    setup.student,
                    replace(setup.how, dreams=rows, decisions=steps * rows),
                    seed=[int(mixed >> np.uint64(1)), part.first],
                    progress=lambda step, steps: None,
                )
        except NonFiniteError as error:
            raise NonFiniteError(f"{part}: {error}") from error
        return [field.unflatten(0, (steps, rows)).numpy() for field in decisions]

    return run
