"""The training loop that V and M share: Adam, cosine decay, validation, early stopping, exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.training.checkpoint import load_training, save_training

Losses = dict[str, Tensor]
Scalars = dict[str, float]
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class FitResult:
    """How a training run ended: steps taken, the best validation loss, and its scalars."""

    steps: int
    best: Scalars


def check_batch_size(size: int, *, least: int = 1) -> None:
    """Refuses a batch that is too small.

    Raises:
        ConfigurationError: Below `least` rows.
    """
    if size < least:
        raise ConfigurationError(f"batch_size must be at least {least}, got {size}")


@dataclass(frozen=True)
class FitOptions:
    """How `fit` optimises.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Adam's, decayed by a cosine to a twentieth.
        clip: Largest gradient norm.
        validate_every: Steps between validations and checkpoints.
        patience: Validations without improvement after which training stops; None never stops early.
        precision: "float32", "bfloat16" (autocast), or "auto": the one measured faster here.
    """

    steps: int
    learning_rate: float
    clip: float = 100.0
    validate_every: int = 500
    patience: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f"precision={self.precision!r}; expected one of {PRECISIONS}")
        if min(self.steps, self.validate_every) < 1 or not self.learning_rate > 0:
            raise ConfigurationError(
                "steps and validate_every must be at least 1 and learning_rate positive; got "
                f"{self.steps}, {self.validate_every}, {self.learning_rate}"
            )
        if not self.clip > 0 or (self.patience is not None and self.patience < 1):
            raise ConfigurationError(
                "clip must be positive and patience at least 1, or None, which never stops early; got "
                f"{self.clip} and {self.patience}"
            )

    @classmethod
    def of(cls, options: Any) -> FitOptions:
        """The part of a recipe's fit options that `fit` takes: their fields of the same names, defaults for the others.

        Raises:
            ConfigurationError: A number out of range, or an unknown precision.
        """
        return cls(**{part.name: getattr(options, part.name) for part in fields(cls) if hasattr(options, part.name)})

    def rate(self, step: int) -> float:
        """The learning rate at a step."""
        return self.learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def fit(
    module: nn.Module,
    losses: Callable[[int], Losses],
    validate: Callable[[], Scalars],
    options: FitOptions,
    *,
    checkpoint: Path,
    settings: dict[str, Any] | None = None,
    progress: Callable[[int, int, Scalars], None] = lambda step, steps, scalars: None,
) -> FitResult:
    """Minimise `losses(step)["loss"]` and leave `module` with the weights of the best validation loss.

    A run that is killed, even at once, continues from its last checkpoint when called again with the same settings,
    and on CPU ends with the same weights as an unbroken one.

    Args:
        module: What is trained.
        losses: Losses of step s; must depend on s alone.
        validate: Scalars on held-out data; `"loss"` chooses the best weights.
        options: How it is trained.
        checkpoint: File that is written at each validation.
        settings: What must agree for a checkpoint to be continued, with all of `options`; JSON-ready.
        progress: Called at each validation with step, steps and scalars.

    Raises:
        NonFiniteError: A loss, gradient or validation became NaN or infinite; the checkpoint is the last good one.
        ConfigurationError: The checkpoint is of a run with other settings.
    """
    optimiser = torch.optim.Adam(module.parameters(), lr=options.learning_rate)
    best, record = _begin_or_continue(module, losses, optimiser, options, checkpoint, settings or {})
    dtype = torch.bfloat16 if record["precision"] == "bfloat16" else torch.float32
    patience = math.inf if options.patience is None else options.patience
    while record["step"] < options.steps and record["stale"] < patience:
        upto = min(record["step"] + options.validate_every, options.steps)
        means = _take_steps(module, losses, optimiser, options, range(record["step"], upto), dtype, checkpoint)
        module.eval()
        with torch.no_grad():
            found = validate()
        if not math.isfinite(found["loss"]):
            raise not_finite("the held-out loss", upto, checkpoint)
        better = found["loss"] < record["best"]["loss"]
        if better:
            best = _copied_weights(module)
        record |= {
            "step": upto,
            "best": found if better else record["best"],
            "stale": 0 if better else record["stale"] + 1,
        }
        save_training(checkpoint, module, optimiser, best, record)
        scalars = {f"train/{k}": v for k, v in means.items()} | {f"held_out/{k}": v for k, v in found.items()}
        progress(upto, options.steps, scalars)
    module.load_state_dict(best)
    module.eval()
    return FitResult(record["step"], record["best"])


def _begin_or_continue(
    module: nn.Module,
    losses: Callable[[int], Losses],
    optimiser: torch.optim.Adam,
    options: FitOptions,
    checkpoint: Path,
    settings: dict[str, Any],
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The best weights and the record of the run that `checkpoint` holds, or of a new one."""
    settings = settings | {
        "steps": options.steps,
        "learning_rate": options.learning_rate,
        "clip": options.clip,
        "validate_every": options.validate_every,
        "patience": options.patience,
        "asked_precision": options.precision,
    }
    if checkpoint.exists():
        return load_training(checkpoint, module, optimiser, settings)
    best = _copied_weights(module)
    precision = options.precision
    if precision == "auto":
        precision = faster_precision(module, losses, next(module.parameters()).device)
    record = {"settings": settings, "precision": precision, "step": 0, "best": {"loss": math.inf}, "stale": 0}
    if options.precision == "auto":  # a run killed before its first validation keeps the precision it began with
        save_training(checkpoint, module, optimiser, best, record)
    return best, record


def _take_steps(
    module: nn.Module,
    losses: Callable[[int], Losses],
    optimiser: torch.optim.Adam,
    options: FitOptions,
    steps: range,
    dtype: torch.dtype,
    checkpoint: Path,
) -> Scalars:
    """Take `steps`; returns the means of their scalars."""
    module.train()
    device = next(module.parameters()).device
    means: Scalars = {}
    for step in steps:
        for group in optimiser.param_groups:
            group["lr"] = options.rate(step)
        scalars = training_step(module, losses, optimiser, step, device, dtype, options.clip, checkpoint)
        for name, value in scalars.items():
            means[name] = means.get(name, 0.0) + value / len(steps)
    return means


def _copied_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def training_step(
    module: nn.Module,
    losses: Callable[[int], Losses],
    optimiser: torch.optim.Adam,
    step: int,
    device: torch.device,
    dtype: torch.dtype,
    clip: float,
    checkpoint: Path,
) -> Scalars:
    """One optimiser step of `fit` in place; returns the losses and the gradient's norm.

    Raises:
        NonFiniteError: A loss or gradient is not finite; `checkpoint` is named as the last good one.
    """
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        found = losses(step)
    found["loss"].backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), clip)
    scalars = {name: float(value.detach()) for name, value in found.items()}
    bad = [name for name, value in scalars.items() if not math.isfinite(value)]
    if bad or not math.isfinite(float(norm)):
        raise not_finite(", ".join(bad) or "gradient norm", step, checkpoint)
    optimiser.step()
    return scalars | {"gradient_norm": float(norm)}


def not_finite(what: str, step: int, checkpoint: Path) -> NonFiniteError:
    """The error of a loss or gradient that is not finite."""
    return NonFiniteError(
        f"{what} is not finite at step {step}. Last good checkpoint: "
        f"{checkpoint if checkpoint.exists() else 'none yet'}. A smaller learning rate often helps."
    )


def faster_precision(module: nn.Module, losses: Callable[[int], Losses], device: torch.device) -> str:
    """The precision whose forward and backward pass is faster here, the median of three."""
    module.train()
    medians = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        seconds = []
        for _ in range(4):  # the first is a warm-up
            begin = time.perf_counter()
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                loss = losses(0)["loss"]
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - begin)
            module.zero_grad(set_to_none=True)
        medians[name] = sorted(seconds[1:])[1]
    return min(medians, key=lambda name: medians[name])
