"""The compiled step against the fused one: equal up to rounding; without a compiler it is refused."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from scipy import stats

from dreamenv.envs import DreamVectorEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.mdn_rnn.fast.compiled import CompiledStepper
from dreamenv.noise.hashed import EpisodeNoise, hashed_bits, hashes, numbers_of
from tests.fakes import fake_world_model, trained_like_world_model
from tests.memory.small_memory import actions, seeded, small

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("compiler")]  # the first to compile warms up for all
compiles = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs g++ or clang++ on the CPU"
)
ROWS = 12


@compiles
@pytest.mark.parametrize(
    ("space", "options"),
    [
        ("box", {"components": "joint", "reward_sees_next": True}),
        ("discrete", {"components": "per_dimension", "reward_head": "mse", "termination": "cut"}),
    ],
)
def test_it_is_the_batched_step(space: str, options: dict[str, Any]) -> None:
    memory = small(space, **options)
    compiled, fused = memory.stepper(ROWS, compiled=True), memory.stepper(ROWS)
    assert isinstance(compiled, CompiledStepper)
    state = memory.initial(torch.randn(ROWS, memory.latent_size, generator=seeded(2)), noise=seeded())
    for step in range(6):
        if step == 3:  # new weights are taken over
            with torch.no_grad():
                memory.reward_head.network[2].bias.add_(0.5)
        draws = {"noise": seeded(step), "temperature": 1.0}
        expected, said = fused(state, actions(space, ROWS), **draws)
        state, also = compiled(state, actions(space, ROWS), **draws | {"noise": seeded(step)})
        for part, its in zip(expected, state, strict=True):
            torch.testing.assert_close(its, part, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(also.reward, said.reward, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(also.termination_probability, said.termination_probability, rtol=1e-3, atol=1e-5)
        assert (also.terminated == said.terminated).sum() >= ROWS - 1


@compiles
def test_compiled_noise_is_the_noise() -> None:
    plain, hashed = EpisodeNoise(ROWS), EpisodeNoise(ROWS)
    make = torch.compile(
        lambda draw, kind, n: numbers_of(hashed_bits(hashes(draw.keys, draw.steps), draw.places), kind, n)
    )
    for noise in (plain, hashed):
        noise.begin_episodes(np.arange(ROWS), np.arange(ROWS, dtype=np.uint64) + 2**63)
    for _ in range(2):
        for noise in (plain, hashed):
            noise.begin_step()
        assert torch.equal(make(hashed.hashed(3), "uniform", 3), plain.uniform(ROWS, 3))
        torch.testing.assert_close(make(hashed.hashed(5), "normal", 5), plain.normal(ROWS, 5), rtol=1e-5, atol=1e-6)
        for noise in (plain, hashed):
            noise.end_step()


@compiles
def test_in_bfloat16_dreams_follow_the_same_distribution() -> None:
    """Kolmogorov-Smirnov for each latent, moments, and the ends, on other random numbers."""
    memory = small("box", components="joint", hidden_size=32, mixtures=4)
    start = memory.initial(torch.randn(1, memory.latent_size, generator=seeded(2)), noise=seeded())
    state = type(start)(*(part.expand(4000, -1).contiguous() for part in start))
    action = actions("box", 1).expand(4000, -1).contiguous()
    with torch.no_grad():
        plain, said = memory.imagine(state, action, noise=seeded(1))
    half, also = memory.stepper(4000, precision="bfloat16", compiled=True)(state, action, noise=seeded(2))
    for dimension in range(memory.latent_size):
        found = stats.ks_2samp(plain.latent[:, dimension].numpy(), half.latent[:, dimension].numpy())
        assert found.pvalue > 1e-3
    spread = plain.latent.std(0)
    assert ((half.latent.mean(0) - plain.latent.mean(0)).abs() < 5 * spread * np.sqrt(2 / 4000)).all()
    torch.testing.assert_close(half.latent.std(0), spread, rtol=0.08, atol=0.0)
    torch.testing.assert_close(also.reward, said.reward, rtol=0.02, atol=0.02)
    assert abs(float(also.terminated.float().mean() - said.terminated.float().mean())) < 0.04


@compiles
def test_dreams_go_on_as_without() -> None:
    model = trained_like_world_model()
    pair = [DreamVectorEnv(model, ROWS, compiled=compiled, max_episode_steps=4) for compiled in (False, True)]
    seen = [envs.reset(seed=0)[0] for envs in pair]
    np.testing.assert_array_equal(*seen)
    pair[0].action_space.seed(0)
    for _ in range(9):  # past the time limit and the autoreset behind it
        action = pair[0].action_space.sample()
        plain, compiled = (envs.step(action) for envs in pair)
        np.testing.assert_allclose(compiled[0], plain[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(compiled[3], plain[3])
    twin = pair[1].clone()
    assert twin.rollout.compiled
    action = pair[0].action_space.sample()
    np.testing.assert_array_equal(twin.step(action)[0], pair[1].step(action)[0])  # bit for bit
    assert pair[1].metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP


def test_what_cannot_be_compiled_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="no compiled step"):
        DreamVectorEnv(fake_world_model(), 4, compiled=True)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"C\+\+ compiler"):
        DreamVectorEnv(trained_like_world_model(), 4, compiled=True)
