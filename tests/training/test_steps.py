"""Optimiser steps that are taken again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dreamenv.errors import NonFiniteError
from dreamenv.noise.base import seeded_weights, step_generator
from dreamenv.training.fit import Losses, training_step
from dreamenv.training.steps import RepeatedStep, Tensors

FILE = Path("checkpoint.safetensors")


class Noisy(nn.Module):
    """A loss that draws, and a buffer that every step moves."""

    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        with seeded_weights(1):
            self.layer = nn.Linear(3, 2)
        self.register_buffer("average", torch.zeros(()))

    def losses(self, inputs: Tensors, generator: torch.Generator) -> tuple[Losses, Tensors]:
        (x,) = inputs
        outputs = self.layer(x + torch.randn(x.shape, generator=generator, device=x.device))
        loss = outputs.square().mean()
        with torch.no_grad():
            self.average.lerp_(loss, 0.1)
        return {"loss": loss, "half": loss / 2}, (outputs.detach(),)


def repeated(module: Noisy, device: torch.device) -> RepeatedStep:
    return RepeatedStep(module, module.losses, learning_rate=0.1, device=device, clip=1.0, checkpoint=FILE)


def plain(module: Noisy, optimiser: torch.optim.Adam, x: Tensor, step: int) -> dict[str, float]:
    def losses(number: int) -> Losses:
        return module.losses((x,), step_generator(7, number, x.device))[0]

    return training_step(module, losses, optimiser, step, x.device, torch.float32, 1.0, FILE)


@pytest.mark.parametrize(
    "name", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
def test_it_takes_the_steps_that_training_step_takes(name: str) -> None:
    device = torch.device(name)
    ours, other = Noisy().to(device), Noisy().to(device)
    step, optimiser = repeated(ours, device), torch.optim.Adam(other.parameters(), lr=0.1, capturable=name == "cuda")
    for number in range(3):
        x = torch.full((4, 3), float(number))
        scalars, (outputs,) = step((x,), seed=7, step=number)
        assert scalars == plain(other, optimiser, x.to(device), number)
        assert scalars["loss"] == pytest.approx(float(outputs.square().mean()))
        assert scalars["half"] == pytest.approx(scalars["loss"] / 2)
    for mine, theirs in zip(ours.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_loss_that_is_not_finite_stops_it() -> None:
    step = repeated(Noisy(), torch.device("cpu"))
    with pytest.raises(NonFiniteError, match="step 5"):
        step((torch.full((4, 3), torch.nan),), seed=7, step=5)
