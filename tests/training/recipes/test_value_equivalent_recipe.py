"""MuZero's recipe: it learns a small task's values and policy, goes on to the bit, and plays itself in the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.data.episodes import EpisodeCache
from dreamenv.envs import DreamEnv
from dreamenv.errors import ConfigurationError
from dreamenv.options import options_from
from dreamenv.training.pipeline import TrainOptions
from dreamenv.training.recipes.base import Job
from dreamenv.training.recipes.value_equivalent import Networks, ValueEquivalentRecipe
from dreamenv.training.recipes.value_equivalent_options import (
    SearchOptions,
    TargetOptions,
    UnrolledFitOptions,
    ValueEquivalentOptions,
)
from dreamenv.types import RealEnvSpec
from dreamenv.workflows.loop import run_loop
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.world_model import WorldModel

TINY = {
    "encoder": {"width": 16},
    "memory": {"hidden_size": 8, "width": 16, "support": 8},
    "search": {"simulations": 4, "depth": 4, "discount": 0.9},
    "targets": {"unroll": 2, "returns": 3, "rate": 0.1},
    "fit": {"batch_size": 16, "steps": 800, "learning_rate": 2e-2, "validate_every": 400},
}


def corridor(rng: np.random.Generator, episodes: int = 40) -> EpisodeCache:
    """Random walks over places 0 to 3 as one-hot vectors; the right end pays 1 and ends the task."""
    rows: list[np.ndarray] = []
    actions: list[int] = []
    rewards: list[float] = []
    lengths, terminated = [], []
    for _ in range(episodes):
        place, steps = int(rng.integers(3)), 0
        rows.append(np.eye(4, dtype=np.float32)[place])
        while place < 3 and steps < 12:
            action = int(rng.integers(2))
            place = max(place + 2 * action - 1, 0)
            steps += 1
            rows.append(np.eye(4, dtype=np.float32)[place])
            actions.append(action)
            rewards.append(float(place == 3))
        lengths.append(steps)
        terminated.append(place == 3)
    first = np.concatenate([[0], np.cumsum(np.array(lengths[:-1]) + 1)])
    return EpisodeCache(
        np.stack(rows),
        np.array(actions),
        np.array(rewards, np.float32),
        first,
        np.array(lengths),
        np.array(terminated),
        np.ones(episodes, bool),
    )


def job(folder: Path) -> Job[ValueEquivalentOptions]:
    return Job(
        options_from(ValueEquivalentOptions, TINY),
        corridor(np.random.default_rng(0)),
        RealEnvSpec("CartPole-v1"),
        spaces.Discrete(2),
        folder,
        seed=1,
    )


def with_consistency(made: Job[ValueEquivalentOptions], weight: float) -> Job[ValueEquivalentOptions]:
    targets = replace(made.options.targets, consistency=weight)
    return replace(made, options=replace(made.options, targets=targets))


@pytest.mark.slow
def test_it_learns_values_policy_rewards_and_ends(tmp_path: Path) -> None:
    fitted = ValueEquivalentRecipe().fit(job(tmp_path))
    memory, noise = fitted.memory, torch.Generator().manual_seed(0)
    memory.requires_grad_(False)
    fitted.vision.requires_grad_(False)
    state = memory.initial(fitted.vision.encode(torch.eye(4)[:3]), noise=noise)
    prior, value = memory.prior(state), memory.value(state)
    assert prior is not None
    assert value is not None
    assert prior.argmax(1).tolist() == [1, 1, 1], "to the right"
    # Returns are those of the random walk: next to the end about half of 1 and half of what the step back is worth
    assert 0.3 < value[2] < 1.1
    assert value[2] > value[0]
    # Two steps to the right of place 1 pay 1 and end it, although nobody has shown the second state
    for _ in range(2):
        state, said = memory.imagine(state, torch.ones(3, dtype=torch.int64), noise=noise, temperature=0.0)
    assert float(said.reward[1]) == pytest.approx(1, abs=0.3)
    assert float(said.reward[0]) == pytest.approx(0, abs=0.3)
    assert said.terminated.tolist()[:2] == [False, True]
    behind = memory.value(state)
    assert behind is not None
    assert float(behind[1]) == pytest.approx(0, abs=0.15), "there is nothing behind an end"
    assert fitted.held_out["agreement"] > 0.7
    assert "loss" not in fitted.held_out
    assert bool((memory.latent_std > 0).all())


def test_targets_are_those_of_the_slow_copy(tmp_path: Path) -> None:
    made = job(tmp_path)
    options = replace(made.options, targets=replace(made.options.targets, rate=0.25))
    networks = Networks.of(replace(made, options=options))
    unrolls = networks.unrolls(made.cache)
    slow: Any = networks.slow_memory
    fast: Any = networks.memory
    batch = unrolls.moments(np.arange(8))
    with torch.no_grad():
        slow.value_head.network[-1].bias[11] = 50.0
    policy, value, seen = networks.targets(batch, torch.Generator().manual_seed(0))
    assert seen.shape == (*policy.shape[:2], 8)
    torch.testing.assert_close(policy.sum(-1), torch.ones(policy.shape[:2]))
    worth = float(slow.value_head.places[11])
    assert worth == 3
    expected = batch.returns + batch.weight * slow.value_head(torch.zeros(8))
    torch.testing.assert_close(value, expected)
    before = slow.value_head.network[0].weight.clone()
    with torch.no_grad():
        fast.value_head.network[0].weight.add_(1.0)
    networks.follow()
    torch.testing.assert_close(slow.value_head.network[0].weight, before + 0.25)


def test_what_follows_tells_states_apart_where_rewards_do_not(tmp_path: Path) -> None:
    def apart(consistency: float) -> float:
        """Mean distance between the states of the four places."""
        made = with_consistency(job(tmp_path / str(consistency)), consistency)
        nothing = {name: np.zeros_like(getattr(made.cache, name)) for name in ("rewards", "terminated")}
        options = replace(made.options, fit=replace(made.options.fit, steps=200, learning_rate=5e-3))
        fitted = ValueEquivalentRecipe().fit(replace(made, cache=replace(made.cache, **nothing), options=options))
        with torch.no_grad():
            seen = fitted.vision.encode(torch.eye(4))
            return float(torch.pdist(fitted.memory.initial(seen, noise=torch.Generator().manual_seed(0)).hidden).mean())

    assert apart(2.0) > 0.5
    assert apart(0.0) < 0.2, "all places fall into one state"


def test_the_mean_of_the_weights_is_kept_and_teaches_nothing(tmp_path: Path) -> None:
    made, recipe = job(tmp_path), ValueEquivalentRecipe()
    averaged = replace(made, options=replace(made.options, fit=replace(made.options.fit, average=0.25)))
    plain, mean = recipe.continual(made), recipe.continual(averaged)
    before = [part.clone() for part in mean.memory.parameters()]
    plain.update(0)
    learned = [part.clone() for part in plain.memory.parameters()]
    scalars = [mean.update(step)[0] for step in range(2)]
    # The copies follow before a step, so that the mean knows of the first step alone
    for part, first, then in zip(mean.memory.parameters(), before, learned, strict=True):
        torch.testing.assert_close(part, first.lerp(then, 0.25))
    again = recipe.continual(made)
    assert scalars == [again.update(step)[0] for step in range(2)], "what learns is as it is without a mean"
    mean.finish()
    latent_std: Any = mean.memory.latent_std
    assert not torch.equal(latent_std, torch.ones(8))
    assert mean.measure(made.cache) != again.measure(made.cache)


@pytest.mark.parametrize(("consistency", "average"), [(0.0, None), (2.0, 0.1)])
def test_it_goes_on_to_the_bit(tmp_path: Path, consistency: float, average: float | None) -> None:
    recipe = ValueEquivalentRecipe()
    made = with_consistency(job(tmp_path), consistency)
    made = replace(made, options=replace(made.options, fit=replace(made.options.fit, average=average)))
    unbroken = recipe.continual(made)
    for step in range(3):
        scalars, (states, _) = unbroken.update(step)
    assert {"policy", "value", "reward", "termination"} <= scalars.keys()
    assert states.hidden.shape == (16, 8)
    broken = recipe.continual(made)
    broken.update(0)
    again = recipe.continual(made, {name: part.clone() for name, part in broken.tensors().items()})
    for step in (1, 2):
        again.update(step)
    for (name, part), other in zip(unbroken.tensors().items(), again.tensors().values(), strict=True):
        assert torch.equal(part, other), name
    more = corridor(np.random.default_rng(1), episodes=50)
    again.take(more)
    assert "agreement" in again.measure(more)
    again.finish()


@pytest.mark.integration
def test_larger_rewards_than_ever_do_not_stop_a_loop_for_good(tmp_path: Path) -> None:
    made = job(tmp_path)
    learner = ValueEquivalentRecipe().continual(made)
    large = replace(made.cache, rewards=made.cache.rewards + 1e6)
    with pytest.warns(UserWarning, match="Take a larger one. This run goes on"):
        learner.take(large)
    learner.update(0)
    learner.measure(large)
    with pytest.raises(ConfigurationError, match="Take a larger one"):
        ValueEquivalentRecipe().continual(replace(made, cache=large))


def test_it_plays_itself(tmp_path: Path) -> None:
    search = "planner:mcts,simulations=3,rollout=0,particles=1,horizon=3,gumbel=true"
    loop = LoopOptions(
        rounds=2,
        first_frames=40,
        greedy_episodes=2,
        noisy_episodes=0,
        train=TrainOptions("value_equivalent", TINY, replay_starts=8),
        train_ratio=1.0,
        update_every=1,
        learner=search,
        validation_episodes=1,
    )
    table = run_loop(RealEnvSpec("CartPole-v1", max_episode_steps=15), tmp_path, loop, workers=0, seed=3)
    assert [row.number for row in table] == [0, 1]
    model = WorldModel.load(tmp_path / "bundle")
    assert not model.vision.can_decode
    assert model.vision.config()["standardised"]
    assert model.provenance["recipe"] == "value_equivalent"
    env = DreamEnv(model)
    observation, _ = env.reset(seed=1)
    assert observation.shape == (8,)
    following, reward, *_ = env.step(1)
    assert np.isfinite(following).all()
    assert np.isfinite(reward)
    with pytest.raises(ConfigurationError, match="dreams without pictures"):
        DreamEnv(model, observation="pixels")


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="simulations must be an integer of at least 1, got 0"):
        SearchOptions(simulations=0)
    with pytest.raises(ConfigurationError, match="need unroll and returns of at least 1"):
        TargetOptions(unroll=0)
    with pytest.raises(ConfigurationError, match="value and consistency of at least 0"):
        TargetOptions(consistency=-1)
    with pytest.raises(ConfigurationError, match="batch_size must be at least 2, got 1"):
        ValueEquivalentOptions(targets=TargetOptions(consistency=2), fit=UnrolledFitOptions(batch_size=1))
    with pytest.raises(ConfigurationError, match="batch_size must be at least 1, got 0"):
        ValueEquivalentOptions(fit=UnrolledFitOptions(batch_size=0))
    with pytest.raises(ConfigurationError, match=r"average must be in \(0, 1\], got 0"):
        UnrolledFitOptions(average=0.0)
    with pytest.raises(ConfigurationError, match=r"oldest_returns must be in \[1, returns=10\], got 11"):
        TargetOptions(oldest_returns=11)
    made = job(tmp_path)
    with pytest.raises(ConfigurationError, match="policy over Discrete actions"):
        ValueEquivalentRecipe().fit(replace(made, action_space=spaces.Box(-1, 1, (1,))))
    large = replace(made.cache, rewards=made.cache.rewards * 1e4)
    with pytest.raises(ConfigurationError, match=r"rewards of up to 10000; memory\.support=8 reaches"):
        ValueEquivalentRecipe().fit(replace(made, cache=large))
    promised = replace(made.cache, rewards=np.full_like(made.cache.rewards, 70.0))
    with pytest.warns(UserWarning, match=r"values of up to [\d.]+ are to be learned, and memory\.support=8 reaches"):
        ValueEquivalentRecipe().fit(replace(made, cache=promised, folder=tmp_path / "beyond"))
    assert ValueEquivalentRecipe().refit(made.options, replayed=160).fit.steps == 10
    assert ValueEquivalentRecipe().refit(made.options).fit.steps == made.options.refit_steps
