"""The benchmark: its rows, what it counts, and the products it takes as the bound."""

from __future__ import annotations

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces

from dreamenv.agents import PopulationOptions, initial_weights, score_population
from dreamenv.bench.bound import dreamed_products, layer_products, memory_products
from dreamenv.bench.cases import LivingRows
from dreamenv.bench.run import BenchOptions, bench
from dreamenv.bench.training import training_cases
from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.rssm.model import RSSM
from dreamenv.types import RealEnvSpec
from dreamenv.vision.joint import SymlogMLP
from dreamenv.vision.vae import ConvVAE
from dreamenv.world_model import WorldModel
from tests.colour_env import ColourEnv
from tests.fakes import CountingMemory, fake_world_model, trained_like_world_model

KEYS = {"case", "num_envs", "steps_per_s", "bound_steps_per_s", "fraction", "device"}


def test_rows_of_a_model() -> None:
    gym.register("Colour-v0", entry_point=ColourEnv)
    try:
        spec = RealEnvSpec("Colour-v0", action_repeat=2)
        model = trained_like_world_model(action_space=spaces.Discrete(3), real=spec)
        rows = bench(model, BenchOptions(seconds=0.02, most_envs=16, population=4, rollouts=2, horizon=5))
    finally:
        del gym.registry["Colour-v0"]
    cases = [(row.case, row.num_envs) for row in rows]
    vectors = [
        (name, count) for name in ("dream vector", "dream vector fp32", "dream vector bf16") for count in (1, 16)
    ]
    assert cases == [("real", 1), ("dream gym.make", 1), *vectors, ("evolution", 8), ("decode", 64), ("encode", 64)]
    assert all(row.steps_per_s > 0 and row.device == "cpu" for row in rows)
    real, *dreams = (row.to_json() for row in rows)
    assert real["frames_per_s"] == pytest.approx(2 * real["steps_per_s"])
    assert real["bound_steps_per_s"] is None
    for row in dreams:
        assert set(row) == KEYS
        assert row["fraction"] == pytest.approx(row["steps_per_s"] / row["bound_steps_per_s"])


def test_training_is_of_copies_in_both_precisions() -> None:
    model = trained_like_world_model(action_space=spaces.Discrete(3), real=RealEnvSpec("Colour-v0"))
    parts = {**model.memory.state_dict(), **model.vision.state_dict()}
    before = {name: part.clone() for name, part in parts.items()}
    cases = training_cases(model, seed=0, pictures=2, sequences=3, length=10)
    assert [case.name for case in cases] == ["train V", "train M", "train V bf16", "train M bf16"]
    assert [case.work() for case in cases] == [2, 30, 2, 30]
    assert [case.bound() for case in cases][1::2] == [30, 30]  # type: ignore[misc]
    assert all(torch.equal(part, before[name]) for name, part in parts.items())


def test_v_and_m_of_an_rssm_are_fitted_together() -> None:
    memory = RSSM(8, spaces.Discrete(3), 8, groups=2, classes=4, width=8)
    starts = StartStates(torch.zeros(1, 8))
    model = WorldModel(
        SymlogMLP(5, memory.latent_size, 8),
        memory,
        RealEnvSpec("Some-v0"),
        spaces.Discrete(3),
        starts,
        max_episode_steps=9,
        temperature=1.0,
    )
    before = {name: part.clone() for name, part in model.memory.state_dict().items()}
    (case,) = training_cases(model, seed=0)
    assert (case.name, case.work(), case.bound()) == ("train V and M", 16 * 64, pytest.approx(16 * 64, rel=0.1))
    assert all(torch.equal(part, before[name]) for name, part in model.memory.state_dict().items())


def test_a_model_without_products_has_no_bound() -> None:
    options = BenchOptions(seconds=0.01, most_envs=1, population=2, rollouts=1, horizon=2, real=False)
    rows = bench(fake_world_model(), options)
    assert [row.case for row in rows] == ["dream gym.make", "dream vector", "evolution"]
    assert all(row.fraction is None for row in rows)


def test_evolution_counts_the_living_only() -> None:
    model = fake_world_model(CountingMemory(lifetime=3))
    counter = LivingRows(model.memory)
    model.memory = counter.memory
    weights = initial_weights(model)[None].repeat(2, axis=0)
    generator = torch.Generator().manual_seed(0)
    score_population(model, weights, PopulationOptions(rollouts=5, horizon=7), generator=generator)
    assert counter.lived == 2 * 5 * 3


def test_products_of_the_memory() -> None:
    memory = MDNRNN(4, spaces.Discrete(3), hidden_size=8, mixtures=2)
    products = memory_products(memory)
    assert (1, 4 + 3, 4 * 8) in products
    assert (1, 8, 4 * 8) in products
    assert (1, 8, 3 * 2 * 4) in products


def test_a_dream_of_an_rssm_has_no_posterior() -> None:
    """The network that reads embeddings is fitted with the others, and no dreamed step runs it."""
    space = spaces.Discrete(3)
    memory = RSSM(5, space, 8, groups=2, classes=4, width=6).requires_grad_(requires_grad=False)
    fitted, dreamed = memory_products(memory), dreamed_products(memory, space)
    assert sorted(set(fitted) - set(dreamed)) == [(1, 8 + 5, 6)]
    assert len(fitted) - len(dreamed) == 2, "the posterior has two layers"
    assert {(1, 8 + 3, 6), (1, 6 + 8, 3 * 8), (1, 8, 6), (1, 6, 2 * 4), (1, 8 + 8, 128)} <= set(dreamed)
    assert not any(part.requires_grad for part in memory.parameters())


def test_a_dream_of_an_mdn_rnn_has_all_products() -> None:
    memory = MDNRNN(4, spaces.Discrete(3), hidden_size=8, mixtures=2)
    assert dreamed_products(memory, spaces.Discrete(3)) == memory_products(memory)
    assert dreamed_products(CountingMemory(), spaces.Discrete(3)) == []


def test_a_dream_of_an_ensemble_is_multiplied_with_one_member() -> None:
    memory = ProbabilisticEnsemble(3, spaces.Discrete(2), 5, 4, hidden_size=8, layers=2)
    products = memory_products(memory)
    # Two hidden layers, then a mean and a variance of 3 latents and the reward
    assert [product for product in products if product[1:] in ((5, 8), (8, 8), (8, 2 * (3 + 1)))] == [
        (1, 5, 8), (1, 8, 8), (1, 8, 8),
    ]  # fmt: skip


def test_products_of_convolutions() -> None:
    vision = ConvVAE(4, 2)
    picture = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    assert layer_products(lambda: vision.encode(picture), vision)[0] == (31 * 31, 3 * 16, 2)
    decoding = layer_products(lambda: vision.decode(torch.zeros(1, 4)), vision)
    assert decoding[0] == (1, 4, 64)
    assert decoding[1] == (1, 64, 8 * 25)
    assert not any(module._forward_hooks for module in vision.modules())


@pytest.mark.parametrize("name", ["seconds", "most_envs", "population", "rollouts", "horizon"])
def test_numbers_out_of_range(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}=0"):
        BenchOptions(**{name: 0})  # type: ignore[arg-type]
