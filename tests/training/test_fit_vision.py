"""Fitting V: only on frames it may see, and resumed to the last bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError, SpaceMismatchError
from dreamenv.noise.base import seeded_weights
from dreamenv.training.fit import FitResult
from dreamenv.training.fit_vision import FitVisionOptions, fit_vision
from dreamenv.vision.vae import ConvVAE
from tests.training.synthetic import squares

OPTIONS = FitVisionOptions(steps=6, validate_every=2, batch_size=4, precision="float32")


class Stop(Exception):
    """Stands for a kill."""


def stop(step: int, steps: int, scalars: dict[str, float]) -> None:
    raise Stop


def new_vision() -> ConvVAE:
    with seeded_weights(0):
        return ConvVAE(4, 4, rare_colour_exponent=0.5)


def test_an_interrupted_fit_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path) -> None:
    cache, whole, last = squares(), new_vision(), new_vision()
    expected = fit_vision(whole, cache, tmp_path / "whole", OPTIONS)
    for _ in range(2):
        with pytest.raises(Stop):
            fit_vision(new_vision(), cache, tmp_path / "broken", OPTIONS, progress=stop)
    assert fit_vision(last, cache, tmp_path / "broken", OPTIONS) == expected
    for name, part in whole.state_dict().items():
        assert torch.equal(last.state_dict()[name], part), name
    file = "checkpoint.safetensors"
    assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    cache = squares()
    small = dataclasses.replace(cache, observations=cache.observations[:, ::2, ::2])
    with pytest.raises(SpaceMismatchError, match=r"\(32, 32, 3\), ConvVAE takes \(64, 64, 3\).*image_size"):
        fit_vision(new_vision(), small, tmp_path, OPTIONS)


def test_it_learns_and_weights_rare_colours(tmp_path: Path) -> None:
    cache, vision, held_out = squares(6), new_vision(), []
    fit_vision(
        vision, cache, tmp_path, dataclasses.replace(OPTIONS, steps=60, validate_every=20, learning_rate=3e-3),
        progress=lambda step, steps, scalars: held_out.append(scalars["held_out/loss"]),
    )  # fmt: skip
    assert held_out[-1] < 0.9 * held_out[0]
    cells = [(30 >> 5) * 73, ((240 >> 5) * 8 + (200 >> 5)) * 8 + (40 >> 5)]
    ground, square = vision.colour_weights[cells].tolist()
    assert square > 3 * ground
    assert not vision.training


@pytest.mark.parametrize("watched", ["training", "validation"])
def test_it_sees_the_frames_it_may_see(
    tmp_path: Path, watched: str, monkeypatch: pytest.MonkeyPatch, every_frame: EpisodeCache
) -> None:
    """Each frame carries its row; the first episode is held out, and the last frame of two episodes is a repeat."""
    seen: set[int] = set()
    loss = ConvVAE.loss

    def watch(self: ConvVAE, observation: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        if self.training is (watched == "training"):
            seen.update(observation[:, 0, 0, 0].tolist())
        return loss(self, observation, generator=generator)

    monkeypatch.setattr(ConvVAE, "loss", watch)
    options = dataclasses.replace(OPTIONS, batch_size=16, steps=8, validate_every=8)
    fit_vision(new_vision(), every_frame, tmp_path, options)
    # rows 4 to 7 and 8 to 11 are trained on, 0 to 3 held out; 3 and 11 only repeat
    assert seen == ({4, 5, 6, 7, 8, 9, 10} if watched == "training" else {0, 1, 2})


@pytest.fixture
def every_frame() -> EpisodeCache:
    cache = squares(3, 3)
    frames = np.zeros((12, 64, 64, 3), np.uint8)
    frames[:] = np.arange(12)[:, None, None, None]
    return dataclasses.replace(cache, observations=frames, final_valid=np.array([False, True, False]))


@pytest.mark.parametrize("key", ["vision", "batch_size", "seed", "data"])
def test_another_fit_is_refused(tmp_path: Path, key: str) -> None:
    cache = squares()

    def run(vision: ConvVAE, batch_size: int = 4, **changes: Any) -> FitResult:
        options = dataclasses.replace(OPTIONS, steps=2, batch_size=batch_size)
        return fit_vision(vision, cache, tmp_path, options, **({"seed": 0, "settings": {"data": 1}} | changes))

    run(new_vision())
    changes: dict[str, Callable[[], Any]] = {
        "vision": lambda: run(ConvVAE(4, 4, beta=2.0)),
        "batch_size": lambda: run(new_vision(), batch_size=5),
        "seed": lambda: run(new_vision(), seed=1),
        "data": lambda: run(new_vision(), settings={"data": 2}),
    }
    with pytest.raises(ConfigurationError, match=f"written with {key}="):
        changes[key]()
