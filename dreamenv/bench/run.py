"""Throughput of the dream beside what the machine allows: matrix products of the same shapes at the same batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv.bench.alternatives import comparison_cases
from dreamenv.bench.bound import Work
from dreamenv.bench.cases import Case, dream_cases, evolution_case, picture_cases, real_case
from dreamenv.bench.growth import curve_cases
from dreamenv.bench.training import training_cases
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError
from dreamenv.world_model import WorldModel

REPETITIONS = 5


@dataclass(frozen=True)
class Row:
    """Median of the repetitions of one case.

    Attributes:
        case: Its name.
        num_envs: Dreams, rollouts or pictures at once.
        steps_per_s: Steps (one an action, of every dream) or pictures a second.
        bound_steps_per_s: The same for the model's matrix products alone, measured in the same run; None where there
            are none.
        fraction: steps_per_s / bound_steps_per_s.
        device: Where it ran.
        frames_per_s: Real frames a second (action repeat counted), of the real environment only.
    """

    case: str
    num_envs: int
    steps_per_s: float
    bound_steps_per_s: float | None
    fraction: float | None
    device: str
    frames_per_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `frames_per_s` is left out where it means nothing."""
        return {key: value for key, value in asdict(self).items() if key != "frames_per_s" or value is not None}


@dataclass(frozen=True)
class BenchOptions:
    """What `bench` measures, and for how long.

    Attributes:
        seconds: Of measurement a case, and again for its bound; each is run once at least.
        most_envs: Largest batch of dreams.
        population, rollouts, horizon: Of the evolution case.
        real: Whether to measure the real environment.
        compare: Whether to measure what a user could step instead (`comparison_cases`).
        compiled: Whether to measure the compiled step in bfloat16, as "dream vector compiled bf16".
        curves: Whether to measure how the speed grows with the model's sizes (`curve_cases`).
        training: Whether to measure how fast V and M learn (`training_cases`).
    """

    seconds: float = 2.0
    most_envs: int = 4096
    population: int = 64
    rollouts: int = 16
    horizon: int = 50
    real: bool = True
    compare: bool = False
    compiled: bool = False
    curves: bool = False
    training: bool = False

    def __post_init__(self) -> None:
        if self.seconds <= 0 or min(self.most_envs, self.population, self.rollouts, self.horizon) < 1:
            raise ConfigurationError(
                f"seconds must be above 0, numbers at least 1; got seconds={self.seconds}, "
                f"most_envs={self.most_envs}, population={self.population}, rollouts={self.rollouts}, "
                f"horizon={self.horizon}"
            )


def bench(
    world_model: WorldModel | str | Path,
    options: BenchOptions | None = None,
    *,
    device: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int, str], None] = lambda reached, total, case: None,
) -> list[Row]:
    """Measure real steps, dreams, evolution, decoding and encoding, and for each the bound.

    Cases: "real" (random actions; a step is one action, `frames_per_s` counts its frames), "dream gym.make" (the
    scalar form with its wrappers), "dream vector" (features, autoreset and infos included), the same with
    `precision="float32"` and "bfloat16" as "dream vector fp32" and "bf16" (the bound is of float32), "evolution" (a
    population of linear controllers; rows that ended are not counted), "decode" and "encode" (pictures). Each case is
    measured five times in turn with all others, its bound right after it, and the medians are reported.

    The bound is what the model's matrix products alone take, by `torch.mm` into memory that is there already, with the
    same threads and device: for M one product a weight matrix that a dreamed step uses (of an MDN-RNN LSTM input -> 4H
    and H -> 4H, mixture H -> 3KZ, reward and termination heads) at the same batch; for V the multiplications of its
    layers at the rate of a large convolution.

    Args:
        world_model: A registered id, a bundle's folder, or a model.
        options: What is measured; None takes the defaults.
        device: Of the dreams; None is where a given model lies, and the CPU for one that is loaded.
        seed: Of actions and dreams.
        progress: Called before each measurement.

    Raises:
        UnknownDreamError, BundleError, MissingExtraError: The model or the real environment cannot be made.
    """
    options = options or BenchOptions()
    model = open_world_model(world_model, device=device)
    closing: list[Callable[[], Any]] = []
    try:
        cases = list(dream_cases(world_model, model, options.most_envs, seed, closing, compiled=options.compiled))
        cases.append(evolution_case(model, options.population, options.rollouts, options.horizon, seed))
        if model.vision.is_image:
            cases += picture_cases(model, seed)
        if options.training:
            cases += training_cases(model, seed)
        if options.real:
            cases.insert(0, real_case(model, seed, closing))
        if options.compare:
            cases += comparison_cases(model, min(options.most_envs, 1024), min(options.most_envs, 16), seed, closing)
        if options.curves:
            cases += curve_cases(str(model.device), seed)
        return _measure(cases, options.seconds, progress)
    finally:
        for close in closing:
            close()


def _measure(cases: list[Case], seconds: float, progress: Callable[[int, int, str], None]) -> list[Row]:
    rates: list[list[float]] = [[] for _ in cases]
    bounds: list[list[float]] = [[] for _ in cases]
    share = seconds / REPETITIONS
    for case in cases:  # first calls allocate, and are not measured
        for work in filter(None, (case.work, case.bound)):
            work()
    for repetition in range(REPETITIONS):
        for index, case in enumerate(cases):
            progress(repetition * len(cases) + index + 1, REPETITIONS * len(cases), case.name)
            rates[index].append(_rate(case.work, share, case.device))
            if case.bound is not None:
                bounds[index].append(_rate(case.bound, share, case.device))
    rows = []
    for case, rate, bound in zip(cases, rates, bounds, strict=True):
        steps = float(np.median(rate))
        limit = float(np.median(bound)) if bound else None
        frames = steps * case.frames_per_step() if case.frames_per_step is not None else None
        rows.append(Row(case.name, case.num_envs, steps, limit, steps / limit if limit else None, case.device, frames))
    return rows


def _rate(work: Work, seconds: float, device: str) -> float:
    count = 0.0
    _wait(device)
    began = time.perf_counter()
    while True:
        count += work()
        taken = time.perf_counter() - began
        if taken >= seconds:
            _wait(device)
            return count / (time.perf_counter() - began)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
