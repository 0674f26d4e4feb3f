"""The training loop: what is resumed ends as what was not interrupted, and nothing goes on from NaN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.noise.base import seeded_weights, step_generator
from dreamenv.training import fit as optimise
from dreamenv.training.checkpoint import load_tensors
from dreamenv.training.fit import FitOptions, FitResult, fit


class Stop(Exception):
    """Stands for a kill."""


class Task:
    """A line fitted to noisy points; the held-out losses may be given beforehand."""

    def __init__(self, held_out: list[float] | None = None) -> None:
        with seeded_weights(0):
            self.module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        self.steps: list[int] = []
        self.weights: list[Tensor] = []
        self._held_out = iter(held_out) if held_out is not None else None

    def losses(self, step: int) -> dict[str, Tensor]:
        self.steps.append(step)
        x = torch.randn(16, 2, generator=step_generator(3, step))
        loss = (self.module(x).float()[:, 0] - x @ torch.tensor([1.0, -2.0])).square().mean()
        return {"loss": loss, "other": 2 * loss.detach()}

    def validate(self) -> dict[str, float]:
        assert not self.module.training
        self.weights.append(self.flat())
        x = torch.randn(64, 2, generator=step_generator(4, 0))
        loss = float((self.module(x)[:, 0] - x @ torch.tensor([1.0, -2.0])).square().mean())
        return {"loss": loss if self._held_out is None else next(self._held_out), "seen": loss}

    def flat(self) -> Tensor:
        return torch.cat([part.detach().flatten() for part in self.module.parameters()])

    def fit(self, checkpoint: Path, **options: Any) -> FitResult:
        kept: dict[str, Any] = {"steps": 60, "validate_every": 10, "learning_rate": 0.02, "precision": "float32"}
        call = {name: options.pop(name) for name in ("settings", "progress") if name in options}
        chosen = FitOptions(**(kept | options))
        return fit(self.module, self.losses, self.validate, chosen, checkpoint=checkpoint, **call)


def stop_after(count: int) -> Callable[[int, int, dict[str, float]], None]:
    left = [count]

    def progress(step: int, steps: int, scalars: dict[str, float]) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    return progress


def test_the_loss_falls_and_progress_says_how(tmp_path: Path) -> None:
    task, seen = Task(), []
    found = task.fit(tmp_path / "c", progress=lambda step, steps, scalars: seen.append((step, steps, scalars)))
    assert [row[:2] for row in seen] == [(step, 60) for step in range(10, 61, 10)]
    assert set(seen[0][2]) == {"train/loss", "train/other", "train/gradient_norm", "held_out/loss", "held_out/seen"}
    assert seen[0][2]["train/other"] == pytest.approx(2 * seen[0][2]["train/loss"])
    assert seen[-1][2]["held_out/loss"] < 0.2 * seen[0][2]["held_out/loss"]
    assert found.steps == 60
    assert found.best["loss"] == min(row[2]["held_out/loss"] for row in seen)
    assert task.steps == list(range(60))


def test_losses_are_reported_as_means_since_the_last_report(tmp_path: Path) -> None:
    task, reported, found = Task(), [], []
    losses = task.losses

    def kept(step: int) -> dict[str, Tensor]:
        parts = losses(step)
        found.append(parts["loss"].item())
        return parts

    task.losses = kept  # type: ignore[method-assign]
    task.fit(tmp_path / "c", validate_every=25, progress=lambda step, steps, row: reported.append(row["train/loss"]))
    assert reported == [pytest.approx(np.mean(found[first : first + 25])) for first in (0, 25, 50)]


@pytest.mark.parametrize("kills", [[1], [3], [1, 2, 1]])
def test_an_interrupted_run_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path, kills: list[int]) -> None:
    whole = Task()
    expected = whole.fit(tmp_path / "whole", steps=65)
    for kill in kills:
        with pytest.raises(Stop):
            Task().fit(tmp_path / "broken", steps=65, progress=stop_after(kill))
    last = Task()
    assert last.fit(tmp_path / "broken", steps=65) == expected
    assert torch.equal(last.flat(), whole.flat())
    assert last.steps[0] == 10 * sum(kills)
    assert (tmp_path / "broken").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_kill_between_checkpoints_loses_only_what_came_after(tmp_path: Path) -> None:
    whole, broken = Task(), Task()
    whole.fit(tmp_path / "whole")
    losses = broken.losses

    def breaks(step: int) -> dict[str, Tensor]:
        if step == 27:
            raise Stop
        return losses(step)

    broken.losses = breaks  # type: ignore[method-assign]
    with pytest.raises(Stop):
        broken.fit(tmp_path / "broken")
    last = Task()
    last.fit(tmp_path / "broken")
    assert last.steps[0] == 20
    assert torch.equal(last.flat(), whole.flat())


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, again = Task(), Task()
    found = first.fit(tmp_path / "c")
    assert again.fit(tmp_path / "c") == found
    assert again.steps == []
    assert torch.equal(again.flat(), first.flat())


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    task = Task([5.0, 1.0, 3.0, 2.0, 4.0, 9.0])
    found = task.fit(tmp_path / "c")
    assert found.best["loss"] == 1.0
    assert torch.equal(task.flat(), task.weights[1])
    assert not torch.equal(task.flat(), task.weights[-1])


def test_it_stops_early_and_remembers_its_patience(tmp_path: Path) -> None:
    losses = [5.0, 4.0, 4.5, 4.0, 3.0, 3.0]
    task = Task(losses)
    assert task.fit(tmp_path / "c", patience=2).steps == 40
    assert len(task.weights) == 4
    # the third validation is the first without gain, also across a kill
    with pytest.raises(Stop):
        Task(losses).fit(tmp_path / "d", patience=2, progress=stop_after(3))
    assert Task(losses[3:]).fit(tmp_path / "d", patience=2).steps == 40


def test_the_rate_decays_by_a_cosine_to_a_twentieth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    Task().fit(tmp_path / "c", steps=200, learning_rate=1.0, validate_every=200)
    assert rates[0] == 1.0
    assert rates[100] == pytest.approx(0.525)
    assert rates[-1] == pytest.approx(0.05, abs=1e-3)
    assert np.all(np.diff(rates) < 0)


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize(("at", "good"), [(4, "none yet"), (34, "checkpoint.safetensors")])
def test_nan_stops_at_once(tmp_path: Path, where: str, at: int, good: str) -> None:
    task, file = Task(), tmp_path / "checkpoint.safetensors"
    losses = task.losses

    def breaks(step: int) -> dict[str, Tensor]:
        found = losses(step)
        if step == at:
            # the square root's slope at 0 is infinite, times 0 it is NaN
            nan = torch.tensor(torch.nan) if where == "loss" else (found["loss"] * 0).sqrt() * 0
            found["loss"] = found["loss"] + nan
        return found

    task.losses = breaks  # type: ignore[method-assign]
    what = "loss" if where == "loss" else "gradient norm"
    with pytest.raises(NonFiniteError, match=rf"^{what} is not finite at step {at}\. Last good checkpoint: .*{good}"):
        task.fit(file)
    if at > 10:
        tensors, record = load_tensors(file)
        assert record["step"] == 30
        assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert task.flat().isfinite().all()  # the broken step was not taken


def test_a_held_out_nan_never_becomes_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="the held-out loss is not finite at step 30"):
        Task([2.0, 1.0, float("nan")]).fit(tmp_path / "c")
    assert load_tensors(tmp_path / "c")[1]["step"] == 20


def test_other_settings_are_refused(tmp_path: Path) -> None:
    Task().fit(tmp_path / "c", settings={"data": "one", "shape": (1, 2)})
    Task().fit(tmp_path / "c", settings={"data": "one", "shape": (1, 2)})
    for options, key in (
        ({"settings": {"data": "two"}}, "data"),
        ({"learning_rate": 0.5}, "learning_rate"),
        ({"steps": 70}, "steps"),
        ({"precision": "bfloat16"}, "asked_precision"),
    ):
        with pytest.raises(ConfigurationError, match=f"was written with {key}="):
            Task().fit(tmp_path / "c", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"validate_every": 0},
        {"learning_rate": 0.0},
        {"precision": "float16"},
        {"patience": 0},
        {"clip": 0.0},
        {"clip": -1.0},
    ],
)
def test_parameters_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Task().fit(tmp_path / "c", **options)


@pytest.mark.parametrize("faster", ["float32", "bfloat16"])
def test_auto_takes_thefaster_precision_and_keeps_it(
    tmp_path: Path, faster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimise, "faster_precision", lambda *args: faster)
    autocast: list[bool] = []
    task = Task()
    losses = task.losses

    def watched(step: int) -> dict[str, Tensor]:
        autocast.append(torch.is_autocast_enabled("cpu"))
        if step == 5:
            raise Stop
        return losses(step)

    task.losses = watched  # type: ignore[method-assign]
    with pytest.raises(Stop):
        task.fit(tmp_path / "c", precision="auto")
    assert autocast == [faster == "bfloat16"] * 6
    # killed before its first validation, and the machine is busier now
    monkeypatch.setattr(optimise, "faster_precision", lambda *args: "neither")
    Task().fit(tmp_path / "c", precision="auto")
    assert load_tensors(tmp_path / "c")[1]["precision"] == faster


def test_measuring_precisions_changes_nothing(tmp_path: Path) -> None:
    task = Task()
    before = task.flat().clone()
    found = optimise.faster_precision(task.module, task.losses, torch.device("cpu"))
    assert found in ("float32", "bfloat16")
    assert torch.equal(task.flat(), before)
    assert all(part.grad is None for part in task.module.parameters())
    assert set(task.steps) == {0}


def test_generators_depend_on_seed_and_step_alone() -> None:
    def draw(seed: int, step: int) -> float:
        return float(torch.rand(1, generator=step_generator(seed, step)))

    assert draw(1, 2) == draw(1, 2)
    assert len({draw(seed, step) for seed in range(5) for step in range(5)}) == 25


def test_seeded_weights_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    with seeded_weights(4):
        one = nn.Linear(2, 2).weight
    with seeded_weights(4):
        two = nn.Linear(2, 2).weight
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
