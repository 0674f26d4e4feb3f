"""What the benchmark compares the dream with does the same work, and the other measurements say what they claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces

from dreamenv.bench import growth
from dreamenv.bench import startup as bench_startup
from dreamenv.bench.growth import CURVES, HORIZONS, POPULATIONS, untrained_model
from dreamenv.bench.plain_mdn_rnn import PlainStep
from dreamenv.bench.run import BenchOptions, Row, bench
from dreamenv.bench.startup import Startup, measure_memory, measure_startup
from dreamenv.figures.bench import bench_figures
from dreamenv.figures.canvas import save_figure
from dreamenv.types import RealEnvSpec
from tests.colour_env import ColourEnv
from tests.fakes import LATENT_SIZE, CountingMemory, fake_world_model, trained_like_world_model
from tests.memory.small_memory import actions, seeded, small


@pytest.mark.parametrize("components", ["joint", "per_dimension"])
def test_the_plain_loop_is_the_dream(components: str) -> None:
    """Rewards and hidden states hang on no random number; latents have the mixture's mean."""
    memory = small(components=components, reward_sees_next=False)
    latent = torch.randn(1, memory.latent_size, generator=seeded()).expand(4000, -1)
    state = memory.initial(latent, noise=seeded())
    action = actions("box", 1).expand(4000, -1)
    with torch.no_grad():
        after, said = memory.imagine(state, action, noise=seeded(1))
        seen, hidden, cell, reward, ended = PlainStep(memory)(latent, state.hidden, state.cell, action)
    torch.testing.assert_close(hidden, after.hidden)
    torch.testing.assert_close(cell, after.cell)
    torch.testing.assert_close(reward, said.reward)
    spread = after.latent.std(0)
    assert ((seen.mean(0) - after.latent.mean(0)).abs() < 5 * spread * (2 / 4000) ** 0.5).all()
    torch.testing.assert_close(seen.std(0), spread, rtol=0.1, atol=0.0)
    assert abs(float(ended.float().mean() - said.terminated.float().mean())) < 0.05


def test_comparison_and_curves_have_rows_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All models and lengths that are published, in small batches."""
    monkeypatch.setattr(growth, "_ROWS", 8)
    monkeypatch.setattr(growth, "_ROLLOUTS", 2)
    gym.register("Colour-v0", entry_point=ColourEnv)
    try:
        model = trained_like_world_model(action_space=spaces.Discrete(3), real=RealEnvSpec("Colour-v0"))
        smallest = BenchOptions(seconds=0.01, most_envs=2, population=2, rollouts=2, horizon=3)
        rows = bench(model, replace(smallest, real=False, compare=True, curves=True))
    finally:
        del gym.registry["Colour-v0"]
    names = {row.case: row.num_envs for row in rows}
    assert {"plain PyTorch", "SyncVectorEnv", "AsyncVectorEnv", "real, every core"} <= names.keys()
    curves = {f"curve {name} {value}" for name, values in CURVES.items() for value in values}
    curves |= {f"curve horizon {value}" for value in HORIZONS}
    assert {name: names[name] for name in curves} == dict.fromkeys(curves, 8)
    assert [names[f"curve population {value}"] for value in POPULATIONS] == [2 * value for value in POPULATIONS]
    assert all(row.steps_per_s > 0 for row in rows)
    figures = bench_figures(rows)
    assert set(figures) == {"throughput", "growth"}
    for name, figure in figures.items():
        assert save_figure(figure, tmp_path / f"{name}.svg").stat().st_size > 1000
    assert set(bench_figures([Row("dream vector", 1, 10.0, 20.0, 0.5, "cpu")])) == {"throughput"}


def test_startup_is_the_median_of_fresh_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[1.0], [20.0], [300.0, 4000.0], [3.0], [60.0], [900.0, 12000.0], [2.0], [40.0], [600.0, 8000.0]])
    asked: list[str] = []
    monkeypatch.setattr(bench_startup, "_run", lambda code: asked.append(code) or next(answers))
    assert measure_startup("DreamDoom-v0", repetitions=3) == Startup(2.0, 40.0, 600.0, 8000.0)
    assert [code.count("import gymnasium;") for code in asked] == [1, 0, 0] * 3
    assert [code.count("import dreamenv;") for code in asked] == [0, 1, 0] * 3
    assert [code.count("gymnasium.make('DreamDoom-v0')") for code in asked] == [0, 0, 1] * 3


def test_a_new_process_starts_up() -> None:
    # a process that has imported torch already would import in no time, and make as fast cold as warm
    times = measure_startup("DreamDoom-v0", repetitions=1)
    assert times.import_gymnasium > 0.01
    assert times.import_dreamenv > 0.01
    assert 0 < 2 * times.make_warm < times.make_cold


ROWS, STEPS = 1024, 400
KEPT = STEPS * ROWS * 4 * (LATENT_SIZE + 2)  # bytes of all states of `LeakingMemory`


def test_a_dreams_bytes_are_its_state_and_it_keeps_no_other() -> None:
    memory = measure_memory(untrained_model(latents=4, mixtures=2, hidden=8), num_envs=ROWS, steps=ROWS * STEPS)
    # latent, hidden, cell, and a few numbers of each dream
    assert 4 * (4 + 8 + 8) < memory.bytes_per_env < 4 * (4 + 8 + 8) + 64
    assert memory.growth < KEPT / 4
    assert memory.steps == ROWS * STEPS


class LeakingMemory(CountingMemory):
    """Keeps every state that it has dreamed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def imagine(self, *args: Any, **options: Any) -> Any:
        found = super().imagine(*args, **options)
        self.kept.append(found)
        return found


def test_growth_is_seen_though_this_process_was_large_before() -> None:
    blocks = [torch.zeros(ROWS, LATENT_SIZE) for _ in range(6 * STEPS)]
    del blocks[:-1]  # the last one holds the memory of the others in this process, for whoever wants it next
    assert measure_memory(fake_world_model(LeakingMemory()), num_envs=ROWS, steps=ROWS * STEPS).growth > KEPT
