"""Fitting an ensemble: held-out data, elites, early stopping, and fits one after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.data.episodes import EpisodeCache
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.noise.base import seeded_weights
from dreamenv.training.checkpoint import load_tensors
from dreamenv.training.recipes.fit_ensemble import (
    EnsembleFit,
    EnsembleFitOptions,
    _Best,
    ensemble_world_model,
    fit_ensemble,
    level,
)
from dreamenv.training.sequences import LatentEpisodes
from dreamenv.training.transitions import Transitions, held_out_rows

MOVE = spaces.Box(-1, 1, (1,), np.float32)


def walk(count: int, seed: int = 0) -> Transitions:
    """z' = z + a / 2, a reward of z, and an end where z' > 1."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((count, 1)).astype(np.float32)
    actions = rng.uniform(-1, 1, (count, 1)).astype(np.float32)
    following = latents + actions / 2
    return Transitions(latents, actions, following, latents[:, 0], following[:, 0] > 1)


def small(seed: int = 0, **options: Any) -> ProbabilisticEnsemble:
    with seeded_weights(seed):
        return ProbabilisticEnsemble(1, MOVE, **({"members": 3, "elites": 2, "hidden_size": 16, "layers": 2} | options))


def fit(memory: ProbabilisticEnsemble, data: Transitions, **options: Any) -> EnsembleFit:
    others = {key: options.pop(key) for key in ("seed", "checkpoint", "progress") if key in options}
    chosen = EnsembleFitOptions(**({"batch_size": 32, "learning_rate": 5e-3, "max_epochs": 15} | options))
    return fit_ensemble(memory, data, chosen, **others)


def squares(memory: ProbabilisticEnsemble, data: Transitions, aside: np.ndarray) -> np.ndarray:
    """`[E, Z + 1]` mean squared errors on the rows `aside`, in normalised units."""
    latents, actions = torch.from_numpy(data.latents[aside]), torch.from_numpy(data.actions[aside])
    outcome = np.concatenate([data.next_latents - data.latents, data.rewards[:, None]], 1)[aside]
    with torch.no_grad():
        mean = memory.gaussian(latents, actions).mean.numpy()
    target = (outcome - memory.change_mean.numpy()) / memory.change_std.numpy()
    return ((mean - target) ** 2).mean(1)


def test_every_member_ends_with_its_best_weights_and_the_best_dream() -> None:
    memory, data, seen = small(), walk(300), []
    begin = torch.get_rng_state()
    found = fit(memory, data, seed=4, progress=lambda *row: seen.append(row))
    assert torch.equal(torch.get_rng_state(), begin)
    assert found.epochs == len(seen) == seen[-1][0]
    assert found.steps == found.epochs * -(-int((~held_out_rows(300, 0.2, 4)).sum()) // 32)
    np.testing.assert_allclose(
        found.held_out_error, squares(memory, data, held_out_rows(300, 0.2, 4)).mean(1), rtol=1e-4
    )
    assert found.held_out_error.max() < 0.1
    assert not memory.training
    assert found.termination < 0.3


def test_the_seed_fixes_the_fit() -> None:
    weights = []
    for seed in (1, 1, 2):
        memory = small()
        fit(memory, walk(120), seed=seed, max_epochs=2)
        weights.append(torch.cat([part.detach().flatten() for part in memory.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_held_out_rows_stay_so_as_the_data_grow() -> None:
    few, many = held_out_rows(200, 0.2, 3), held_out_rows(5000, 0.2, 3)
    np.testing.assert_array_equal(few, many[:200])
    assert many.sum() == 1000
    assert held_out_rows(10, 0.2, 3).sum() == 2
    assert held_out_rows(100_000, 0.2, 3).sum() == 5000
    assert not np.array_equal(few, held_out_rows(200, 0.2, 4))


def test_it_stops_where_nothing_improves_any_more() -> None:
    memory, data = small(), walk(200)
    found = fit(memory, data, improvement=0.999, patience=3, max_epochs=100)
    assert found.epochs < 30
    limited = fit(small(), data, max_steps=4)
    assert limited.steps == 4


def test_an_output_that_cannot_be_predicted_does_not_end_a_fit() -> None:
    """The first one becomes twice as good while the second one wavers: the plain mean falls by less than 1%."""
    best = _Best(small())
    assert best.update(np.array([[0.1, 1.0], [0.1, 1.0], [0.1, 1.0]]), 0.5, 0.01)
    better, same = [0.05, 1.045], [0.1, 1.0]
    assert best.update(np.array([better, same, same]), 0.5, 0.01)
    assert best.error.tolist() == [better, same, same]
    assert level(best.error).tolist() == pytest.approx([(0.05 * 1.045) ** 0.5, 0.1**0.5, 0.1**0.5])
    # What is known to a thousandth cannot become so much better that nothing else counts
    assert level(np.array([[1e-9, 0.5]])) == level(np.array([[1e-6, 0.5]]))


def test_a_rare_reward_passes_for_noise_unless_likelihoods_count_by_their_variance() -> None:
    rng = np.random.default_rng(0)
    latents = rng.uniform(0, 1, (2000, 1)).astype(np.float32)
    actions = rng.uniform(-1, 1, (2000, 1)).astype(np.float32)
    goal = latents[:, 0] > 0.98
    data = Transitions(latents, actions, latents + actions / 10, np.where(goal, 100, 0).astype(np.float32), goal)
    paid = []
    for beta in (0.0, 1.0):
        memory = small(hidden_size=32)
        fit(memory, data, beta=beta, max_epochs=12, patience=12)
        with torch.no_grad():
            mean = memory.gaussian(torch.ones(1, 1), torch.zeros(1, 1)).mean[..., -1].mean()
        paid.append(float(mean * memory.change_std[-1] + memory.change_mean[-1]))
    assert paid[0] < 12 < 30 < paid[1]


def test_what_never_changes_neither_prolongs_a_fit_nor_ends_it() -> None:
    """Such as the walls of a room, whose errors go up and down by nothing but what else is learned."""
    errors = np.array([[0.5, 0.3, 1e-4], [0.5, 0.3, 1e-2]])
    varies = np.array([True, True, False])
    assert level(errors, varies).tolist() == pytest.approx([0.15**0.5] * 2)
    assert level(errors, np.zeros(3, np.bool_)).tolist() == level(errors).tolist(), "where nothing varies, all count"
    data, wall = walk(300), np.full((300, 3), 2.0, np.float32)
    latents, following = (np.concatenate([part, wall], 1) for part in (data.latents, data.next_latents))
    walled = Transitions(latents, data.actions, following, data.rewards, data.terminated)
    with seeded_weights(0):
        memory = ProbabilisticEnsemble(4, MOVE, members=5, elites=2, hidden_size=16, layers=2)
    fit(memory, walled, seed=4, max_epochs=2)
    square = squares(memory, walled, held_out_rows(300, 0.2, 4))
    varies = np.array([True, False, False, False, True])
    assert memory.elite_members.tolist() == np.argsort(level(square, varies))[:2].tolist()
    assert memory.elite_members.tolist() != np.argsort(level(square))[:2].tolist()


def test_elites_are_the_members_of_the_lowest_level() -> None:
    memory, data = small(members=5, elites=2), walk(300)
    noisy = Transitions(
        data.latents, data.actions, data.next_latents, np.random.default_rng(1).standard_cauchy(300).astype(np.float32),
        data.terminated,
    )  # fmt: skip
    fit(memory, noisy, seed=4)
    square = squares(memory, noisy, held_out_rows(300, 0.2, 4))
    assert memory.elite_members.tolist() == np.argsort(level(square))[:2].tolist()


def test_a_head_that_has_nothing_left_to_learn_does_not_prolong_a_fit() -> None:
    best = _Best(small())
    errors = np.ones(best.error.shape)
    assert best.update(errors, 0.5, 0.01)
    assert best.update(errors, 0.4, 0.01)
    # Where nothing ends, it halves its loss again and again
    assert [best.update(errors, 0.001 / 2**epoch, 0.01) for epoch in range(4)] == [True, False, False, False]
    assert best.termination == 0.001 / 8, "and is kept all the same"


def test_a_second_fit_goes_on_from_the_first() -> None:
    memory = small()
    fit(memory, walk(300), seed=2, max_epochs=20)
    found = fit(memory, walk(300), seed=2, max_epochs=1)
    fresh = fit(small(), walk(300), seed=2, max_epochs=1)
    assert found.held_out_error.mean() < 0.5 * fresh.held_out_error.mean()


def test_an_interrupted_fit_ends_bit_for_bit_as_an_unbroken_one(tmp_path: Path) -> None:
    """Killed behind its first checkpoint, which is written at the first epoch's end after 200 steps."""
    data, options = walk(800), {"batch_size": 8, "patience": 4, "improvement": 0.5, "max_epochs": 5, "seed": 3}
    whole, last = small(), small()
    expected = fit(whole, data, **options)
    assert expected.steps == 400

    def stop(epoch: int, epochs: int, scalars: dict[str, float]) -> None:
        if checkpoint.exists():
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(small(), data, checkpoint=checkpoint, progress=stop, **options)
    assert load_tensors(checkpoint)[1]["state"]["steps"] == 240
    for memory in (last, small()):  # the second one finds a finished fit
        found = fit(memory, data, checkpoint=checkpoint, **options)
        assert (found.epochs, found.steps, found.termination) == (expected.epochs, expected.steps, expected.termination)
        np.testing.assert_array_equal(found.held_out_error, expected.held_out_error)
        for name, part in whole.state_dict().items():
            assert torch.equal(memory.state_dict()[name], part), name
    with pytest.raises(ConfigurationError, match="written with patience=4, this run has patience=3"):
        fit(small(), data, checkpoint=checkpoint, **(options | {"patience": 3}))


def test_units_are_those_of_the_training_data() -> None:
    memory, data = small(), walk(300)
    data = Transitions(
        data.latents * 1000 + 5, data.actions, data.next_latents * 1000 + 5, data.rewards, data.terminated
    )
    fit(memory, data, max_epochs=1)
    chosen = data.latents[~held_out_rows(300, 0.2, 0)]
    assert float(memory.latent_mean) == pytest.approx(float(chosen.mean()), rel=1e-4)
    assert float(memory.latent_std) == pytest.approx(float(chosen.std()), rel=1e-4)
    still = Transitions(*(np.zeros_like(part) for part in vars(walk(50)).values()))
    memory.set_scale(*(torch.from_numpy(part) for part in (still.latents, still.next_latents, still.rewards)))
    assert memory.latent_std.tolist() == [1.0]
    assert memory.change_std.tolist() == [1.0, 1.0]


def test_discrete_actions() -> None:
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((400, 1)).astype(np.float32)
    actions = rng.integers(1, 4, 400)
    following = latents + (actions[:, None] - 2).astype(np.float32)
    data = Transitions(latents, actions, following, latents[:, 0], np.zeros(400, bool))
    with seeded_weights(0):
        memory = ProbabilisticEnsemble(1, spaces.Discrete(3, start=1), 3, 2, hidden_size=16, layers=1)
    assert fit(memory, data, max_epochs=40).held_out_error.mean() < 0.1


def test_transitions_of_episodes() -> None:
    cache = EpisodeCache(
        observations=np.zeros((9, 1), np.float32),
        actions=np.arange(6, dtype=np.float32)[:, None],
        rewards=10 + np.arange(6, dtype=np.float32),
        first=np.array([0, 4, 6]),
        lengths=np.array([3, 1, 2]),
        terminated=np.array([True, False, True]),
        final_valid=np.array([True, True, False]),
    )
    mean = np.arange(9, dtype=np.float32)[:, None]
    found = Transitions.of_episodes(cache, LatentEpisodes(mean, np.zeros_like(mean)))
    assert found.latents[:, 0].tolist() == [0, 1, 2, 4, 6]
    assert found.next_latents[:, 0].tolist() == [1, 2, 3, 5, 7]
    assert found.actions[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert found.rewards.tolist() == [10, 11, 12, 13, 14]
    assert found.terminated.tolist() == [False, False, True, False, False]
    with pytest.raises(ConfigurationError, match="as many rows"):
        Transitions(mean, mean[:2], mean, mean[:, 0], mean[:, 0] > 0)


def test_bad_data_and_options() -> None:
    with pytest.raises(ConfigurationError, match="3 transitions leave"):
        fit(small(), walk(3))
    for options in ({"held_out": 1.0}, {"batch_size": 0}, {"patience": 0}, {"improvement": 1.0}, {"beta": 1.5}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            fit(small(), walk(50), **options)
    memory, data = small(), walk(100)
    broken = Transitions(*(part.copy() for part in vars(data).values()))
    broken.next_latents[~held_out_rows(100, 0.2, 0)] = np.nan
    with pytest.raises(NonFiniteError, match="loss is nan"):
        fit(memory, broken)
    assert all(part.isfinite().all() for part in memory.networks.linear.parameters())


def test_a_world_model_for_an_environment() -> None:
    env = gym.make("Pendulum-v1", g=9.0)
    model = ensemble_world_model(env, seed=3, members=2, elites=1, hidden_size=8, layers=1)
    assert (model.real.id, model.real.kwargs, model.max_episode_steps) == ("Pendulum-v1", {"g": 9.0}, 200)
    assert model.memory.latent_size == 3
    same = ensemble_world_model(env, seed=3, members=2, elites=1, hidden_size=8, layers=1)
    pairs = zip(model.memory.parameters(), same.memory.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(ConfigurationError, match="Box of one dimension"):
        ensemble_world_model(gym.make("FrozenLake-v1"))
    with pytest.raises(ConfigurationError, match="max_episode_steps"):
        ensemble_world_model(gym.make("Pendulum-v1").unwrapped)
