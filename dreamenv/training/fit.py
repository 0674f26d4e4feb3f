"""The training loop that V and M share: Adam, cosine decay, validation, early stopping, exact resumption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
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


def fit(
    module: nn.Module,
    losses: Callable[[int], Losses],
    validate: Callable[[], Scalars],
    *,
    checkpoint: Path,
    steps: int,
    learning_rate: float,
    clip: float = 100.0,
    validate_every: int = 500,
    patience: int | None = None,
    precision: str = "auto",
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
        checkpoint: File that is written at each validation.
        steps: Optimiser steps.
        learning_rate: Adam's, decayed by a cosine to a twentieth.
        clip: Largest gradient norm.
        validate_every: Steps between validations and checkpoints.
        patience: Validations without improvement after which training stops; None never stops early.
        precision: "float32", "bfloat16" (autocast), or "auto": the one measured faster here.
        settings: What must agree for a checkpoint to be continued; JSON-ready.
        progress: Called at each validation with step, steps and scalars.

    Raises:
        NonFiniteError: A loss, gradient or validation became NaN or infinite; the checkpoint is the last good one.
        ConfigurationError: The checkpoint is of a run with other settings.
    """
    if precision not in PRECISIONS:
        raise ConfigurationError(f"precision={precision!r}; expected one of {PRECISIONS}")
    if min(steps, validate_every) < 1 or learning_rate <= 0:
        raise ConfigurationError(
            f"steps and validate_every must be at least 1 and learning_rate positive; got {steps}, {validate_every}, "
            f"{learning_rate}"
        )
    settings = (settings or {}) | {"steps": steps, "learning_rate": learning_rate, "asked_precision": precision}
    optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate)
    device = next(module.parameters()).device
    if checkpoint.exists():
        best, record = load_training(checkpoint, module, optimiser, settings)
    else:
        best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        chosen = _faster_precision(module, losses, device) if precision == "auto" else precision
        record = {"settings": settings, "precision": chosen, "step": 0, "best": {"loss": math.inf}, "stale": 0}
        if precision == "auto":  # a run killed before its first validation keeps the precision it began with
            save_training(checkpoint, module, optimiser, best, record)
    dtype = torch.bfloat16 if record["precision"] == "bfloat16" else torch.float32
    while record["step"] < steps and (patience is None or record["stale"] < patience):
        upto = min(record["step"] + validate_every, steps)
        module.train()
        sums: Scalars = {}
        for step in range(record["step"], upto):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            scalars = training_step(module, losses, optimiser, step, device, dtype, clip, checkpoint)
            for name, value in scalars.items():
                sums[name] = sums.get(name, 0.0) + value / (upto - record["step"])
        module.eval()
        with torch.no_grad():
            found = validate()
        if not math.isfinite(found["loss"]):
            raise _not_finite("the held-out loss", upto, checkpoint)
        better = found["loss"] < record["best"]["loss"]
        if better:
            best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        record |= {
            "step": upto,
            "best": found if better else record["best"],
            "stale": 0 if better else record["stale"] + 1,
        }
        save_training(checkpoint, module, optimiser, best, record)
        progress(
            upto, steps, {f"train/{k}": v for k, v in sums.items()} | {f"held_out/{k}": v for k, v in found.items()}
        )
    module.load_state_dict(best)
    module.eval()
    return FitResult(record["step"], record["best"])


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
        raise _not_finite(", ".join(bad) or "gradient norm", step, checkpoint)
    optimiser.step()
    return scalars | {"gradient_norm": float(norm)}


def _not_finite(what: str, step: int, checkpoint: Path) -> NonFiniteError:
    return NonFiniteError(
        f"{what} is not finite at step {step}. Last good checkpoint: "
        f"{checkpoint if checkpoint.exists() else 'none yet'}. A smaller learning rate often helps."
    )


def _faster_precision(module: nn.Module, losses: Callable[[int], Losses], device: torch.device) -> str:
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
