"""Open-loop dreams are those that environments play, whatever kind of memory dreams them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamenv.agents import resolve_agent
from dreamenv.envs import DreamVectorEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel, PlainStepper, Prediction, Stepper
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.noise.base import Noise
from dreamenv.scoring.gap import Gap, GapOptions, measure_gap
from dreamenv.types import Episode
from dreamenv.world_model import WorldModel
from tests.fakes import DISCRETE, CountingMemory, FakeState, NoisyMemory, draw_weights, fake_world_model


def episode(steps: int = 20) -> Episode:
    """Latents that grow by the action, which is 2, as `CountingMemory` dreams them."""
    return Episode(
        observations=2 * np.arange(steps + 1, dtype=np.float32)[:, None].repeat(3, 1),
        actions=np.full(steps, 2, np.int64),
        rewards=np.zeros(steps, np.float32),
        terminated=True,
        truncated=False,
        seed=0,
        policy="test",
        real_frames=steps,
    )


def gap_of(memory: MemoryModel[Any], **kwargs: Any) -> Gap:
    model = fake_world_model(memory)
    options = GapOptions(**({"horizons": (1, 3), "samples": 2, "dreams": 2} | kwargs))
    return measure_gap(model, "random", [episode()], options)


class DriftingStepper(Stepper[FakeState]):
    """Dreams that drift by half a unit a step, which `imagine` does not."""

    def __init__(self, memory: MemoryModel[FakeState]) -> None:
        self.memory = memory

    def __call__(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        dreamed, prediction = PlainStepper(self.memory)(state, action, noise=noise, temperature=temperature)
        return dreamed._replace(latent=dreamed.latent + 0.5), prediction


class DriftingMemory(CountingMemory):
    def stepper(self, rows: int, *, precision: str = "auto", compiled: bool = False) -> Stepper[FakeState]:
        return DriftingStepper(self)


def test_the_gap_measures_the_dream_that_is_played() -> None:
    """The stepper's errors are those of the environments, which never call `imagine` themselves."""
    gap = gap_of(DriftingMemory())
    envs = DreamVectorEnv(fake_world_model(DriftingMemory()), 1)
    before, _ = envs.reset(seed=0)
    after, *_ = envs.step(np.array([2]))
    assert (after - before)[0, :3].tolist() == [2.5] * 3
    assert [row.latent_mse for row in gap.open_loop] == [pytest.approx(0.25), pytest.approx(2.25)]
    assert [row.latent_mse for row in gap_of(CountingMemory()).open_loop] == [0.0, 0.0]


def test_samples_of_a_moment_branch() -> None:
    """What is drawn once a dream, as the member of a TS∞ ensemble, is drawn anew for each sample."""
    row = gap_of(NoisyMemory(), temperature=0.0, samples=8).open_loop[0]
    # Each sample adds a uniform number of its own, of variance 1/12; the mean's bias is common to both errors
    assert row.latent_mse_sample - row.latent_mse == pytest.approx(7 / 8 / 12, rel=0.4)


def test_members_differ_among_the_samples_of_a_moment() -> None:
    memory = ProbabilisticEnsemble(3, DISCRETE, members=4, elites=4, hidden_size=8, layers=1, propagation="episode")
    draw_weights(memory, torch.Generator().manual_seed(0))
    row = gap_of(memory, temperature=0.0, samples=8).open_loop[0]
    assert row.latent_mse_sample > 1.01 * row.latent_mse


class UnscaledMemory(CountingMemory):
    """Holds no scale, as the documented interface wants it."""

    def __init__(self) -> None:
        super().__init__()
        del self.latent_std


def test_there_is_no_silent_scale() -> None:
    with pytest.raises(ConfigurationError, match=r"UnscaledMemory\.latent_std is None; .* as a buffer \[Z\]"):
        gap_of(UnscaledMemory())


class Doubtful(CountingMemory):
    """Ends with a probability of 0.3 at every step, and predicts the end above 0.2."""

    @property
    def termination_threshold(self) -> float:
        return 0.2

    def imagine(
        self, state: FakeState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[FakeState, Prediction]:
        dreamed, prediction = super().imagine(state, action, noise=noise, temperature=temperature)
        probability = torch.full_like(prediction.reward, 0.3)
        return dreamed, Prediction(prediction.reward, probability, prediction.terminated)


def test_the_cut_is_the_memorys_own() -> None:
    gap = gap_of(Doubtful())
    assert gap.termination_threshold == 0.2
    assert (gap.termination_precision, gap.termination_recall) == (pytest.approx(1 / 20), 1.0)
    assert gap_of(CountingMemory()).termination_threshold == 0.5


class LaggingMemory(CountingMemory):
    """What it decodes is not what V encodes: twice the embedding."""

    def latent(self, state: FakeState) -> Tensor:
        return 2 * state.latent


def test_dreams_are_compared_with_what_the_memory_holds_of_reality() -> None:
    rows = gap_of(LaggingMemory()).open_loop
    assert [row.latent_mse for row in rows] == [0.0, 0.0]
    assert [row.latent_mse_no_change for row in rows] == [pytest.approx(4.0**2), pytest.approx(12.0**2)]


def test_everything_that_names_an_agent_can_be_measured() -> None:
    model: WorldModel = fake_world_model()
    options = GapOptions(horizons=(1,), samples=1, dreams=2)
    by_name = measure_gap(model, "random", [episode()], options)
    resolved = measure_gap(model, resolve_agent("random", model), [episode()], options)
    assert by_name == resolved
    assert by_name.agent == "random"
