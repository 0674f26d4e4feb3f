from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamenv.agents import LinearController, PopulationOptions, initial_weights, score_population, weight_shape
from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.noise.base import GeneratorNoise
from dreamenv.world_model import WorldModel
from tests.fakes import BOX, CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def population(model: WorldModel, count: int, scale: float = 1.0, **kwargs: Any) -> Tensor:
    return scale * torch.randn(count, *weight_shape(model, **kwargs), generator=seeded(99))


def scored(model: WorldModel, weights: Any, seed: int = 0, **options: Any) -> Tensor:
    return score_population(model, weights, PopulationOptions(**options), generator=seeded(seed))


def test_returns_of_a_dream_known_by_heart() -> None:
    # Three steps; the reward is the action's sum plus the age; biases alone choose the action
    model = fake_world_model(CountingMemory(lifetime=3), action_space=BOX)
    weights = torch.zeros(3, *weight_shape(model))
    weights[0, :, -1] = 99.0
    weights[1, :, -1] = -99.0
    returns = scored(model, weights, rollouts=2)
    assert returns.tolist() == [[3 * 3 + 6] * 2, [-3 + 6] * 2, [3 + 6] * 2]
    horizon = scored(model, weights, rollouts=1, horizon=2)
    assert horizon[:, 0].tolist() == [2 * 3 + 3, -2 + 3, 2 + 3]


def test_replay_starts_are_used() -> None:
    # Their age is 2 already
    model = fake_world_model(CountingMemory(lifetime=4), action_space=BOX)
    returns = scored(model, initial_weights(model)[None], rollouts=1, start="replay")
    assert returns.item() == 2 * 1 + 3 + 4


@pytest.mark.parametrize("action_map", ["squash", "throttle"])
def test_the_batch_acts_as_the_controller_does(action_map: str) -> None:
    model = fake_world_model(NoisyMemory(), action_space=BOX, max_episode_steps=1)
    weights = population(model, 4, scale=0.1, action_map=action_map)
    acted: list[Tensor] = []
    imagine = model.memory.imagine

    def watch(state: Any, action: Tensor, **kwargs: Any) -> Any:
        acted.extend((model.memory.features(state), action))
        return imagine(state, action, **kwargs)

    model.memory.imagine = watch  # type: ignore[method-assign]
    scored(model, weights, rollouts=3, action_map=action_map)
    features, actions = acted[0].view(4, 3, -1), acted[1].view(4, 3, -1)
    for own, seen, action in zip(weights, features, actions, strict=True):
        controller = LinearController(own.numpy(), model.observation_space(), BOX, action_map=action_map)
        np.testing.assert_allclose(action.numpy(), controller.predict(seen.numpy())[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("model", [fake_world_model(NoisyMemory(death=0.3)), trained_like_world_model()])
def test_equal_candidates_get_equal_returns_and_rollouts_differ(model: WorldModel) -> None:
    weights = population(model, 3)
    weights[2] = weights[0]
    aligned = scored(model, weights, rollouts=16, compact_below=0)
    assert torch.equal(aligned[0], aligned[2])
    returns = scored(model, weights, rollouts=16)
    # Once rows have left, a matrix product may round a row by its place in the batch.
    torch.testing.assert_close(returns[0], returns[2], rtol=0, atol=2e-6)
    assert not torch.equal(returns[0], returns[1])
    assert len(returns[0].unique()) > 1
    assert torch.equal(returns, scored(model, weights, rollouts=16))
    assert not torch.equal(returns, scored(model, weights, rollouts=16, seed=1))


@pytest.mark.parametrize("compact_below", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("model", [fake_world_model(NoisyMemory(death=0.3)), trained_like_world_model()])
def test_leaving_the_batch_changes_nothing(model: WorldModel, compact_below: float) -> None:
    weights = population(model, 8)
    kept, left = (
        scored(model, weights, rollouts=16, horizon=40, compact_below=share) for share in (0.0, compact_below)
    )
    torch.testing.assert_close(kept, left, rtol=1e-5, atol=1e-5)


def test_ended_dreams_do_leave_the_batch() -> None:
    model = fake_world_model(NoisyMemory(death=0.3))
    sizes: list[int] = []
    imagine = model.memory.imagine

    def watch(state: Any, action: Tensor, **kwargs: Any) -> Any:
        sizes.append(len(action))
        return imagine(state, action, **kwargs)

    model.memory.imagine = watch  # type: ignore[method-assign]
    scored(model, population(model, 8), rollouts=16, horizon=40)
    assert sizes[0] == 128
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 32


@pytest.mark.parametrize("model", [fake_world_model(NoisyMemory(death=0.3)), trained_like_world_model()])
def test_scoring_in_parts_changes_nothing(model: WorldModel) -> None:
    weights = population(model, 7)
    whole = scored(model, weights, rollouts=4)
    parts = scored(model, weights, rollouts=4, max_batch=9)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)


def test_shared_noise_is_distributed_like_independent_noise() -> None:
    # The mean over many rollouts agrees with a plain loop over the memory model
    model = fake_world_model(NoisyMemory(death=0.2))
    weights = initial_weights(model)[None]
    shared = scored(model, weights, rollouts=4000, horizon=10)
    generator = GeneratorNoise(seeded(1))
    state = model.start(torch.randint(5, (4000,), generator=seeded(2)), noise=generator)
    alive, total = torch.ones(4000, dtype=torch.bool), torch.zeros(4000)
    for _ in range(10):
        state, prediction = model.memory.imagine(state, torch.ones(4000, dtype=torch.long), noise=generator)
        total += alive * prediction.reward
        alive &= ~prediction.terminated
    assert shared.mean().item() == pytest.approx(total.mean().item(), rel=0.05)


def test_gradients_and_parameters_are_left_alone() -> None:
    model = trained_like_world_model()
    before = {name: part.clone() for name, part in model.memory.state_dict().items()}
    returns = scored(model, population(model, 2), rollouts=2)
    assert not returns.requires_grad
    returns += 1  # an ordinary tensor, not one of inference mode
    assert before
    assert all(torch.equal(part, before[name]) for name, part in model.memory.state_dict().items())
    assert all(part.requires_grad and part.grad is None for part in model.memory.parameters())


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"max_batch": 1}, {"compact_below": 0.0}, {"compact_below": 1.0}]
)
def test_settings_at_their_bounds_change_no_dream_that_is_known_by_heart(settings: dict[str, Any]) -> None:
    model = fake_world_model(CountingMemory(lifetime=3), action_space=BOX)
    least = {"rollouts": 1, "horizon": 1}
    expected = scored(model, population(model, 3), **least)
    found = scored(model, population(model, 3), **(least | settings))
    assert expected.unique().numel() > 1
    torch.testing.assert_close(found, expected)


def test_rewards_are_clipped_step_by_step() -> None:
    # 3 + 1, 3 + 2, 3 + 3 of the largest action, -1 + 1, -1 + 2, -1 + 3 of the smallest
    model = fake_world_model(CountingMemory(lifetime=3), action_space=BOX)
    weights = torch.zeros(2, *weight_shape(model))
    weights[0, :, -1], weights[1, :, -1] = 99.0, -99.0
    assert scored(model, weights, rollouts=1, reward_clip=(0.5, 4.5))[:, 0].tolist() == [4 + 4.5 + 4.5, 0.5 + 1 + 2]


def test_a_dream_is_cut_where_the_members_disagree() -> None:
    model = fake_world_model(CountingMemory(lifetime=5), action_space=BOX)
    memory: Any = model.memory
    memory.figures = ("disagreement",)
    # The first candidate's actions sum to 3: there is an opinion on them alone, and it parts at an age of 2
    memory.disagreement = lambda state, action: state.age[:, 0] * (action.sum(1) > 2)
    weights = torch.zeros(2, *weight_shape(model))
    weights[0, :, -1], weights[1, :, -1] = 99.0, -99.0
    assert scored(model, weights, rollouts=1, max_disagreement=1.5)[:, 0].tolist() == [4 + 5, 0 + 1 + 2 + 3 + 4]
    assert scored(model, weights, rollouts=1)[:, 0].tolist() == [4 + 5 + 6 + 7 + 8, 0 + 1 + 2 + 3 + 4]


def test_noise_takes_away_what_a_single_action_is_worth() -> None:
    model = fake_world_model(CountingMemory(lifetime=3), action_space=BOX)
    weights = torch.zeros(2, *weight_shape(model))
    weights[:, :, -1] = 99.0
    quiet, loud = (scored(model, weights, rollouts=8, action_noise=amount) for amount in (0.0, 0.3))
    assert float(loud.mean()) < float(quiet.mean()) - 0.5
    assert torch.equal(loud[0], loud[1])  # candidates share it, rollouts do not
    assert len(loud[0].unique()) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"action_noise": -0.1}, "action_noise must be at least 0"),
        ({"action_noise": 1.5}, r"action_noise=1\.5: for Discrete.*a probability"),
        ({"reward_clip": (1.0, 1.0)}, "reward_clip must be"),
        ({"max_disagreement": 0.0}, "max_disagreement must be above 0"),
        ({"max_disagreement": 0.5}, "no members that could disagree"),
        ({"rollouts": 0}, "rollouts must be at least 1"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"max_batch": 0}, "max_batch"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature must be a finite number of at least 0, got inf"),
        ({"compact_below": 1.5}, "compact_below"),
        ({"start": "middle"}, "is not known. Known: first, initial, replay"),
        ({"observation": "pixels"}, "'features' or 'latent'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    model = fake_world_model()
    with pytest.raises(ConfigurationError, match=message):
        scored(model, population(model, 2), **({"rollouts": 2} | settings))


def test_bad_weights() -> None:
    model = fake_world_model()
    with pytest.raises(SpaceMismatchError, match=r"got weights of shape \(2, 3, 3\), expected \(P, 4, 6\)"):
        scored(model, torch.zeros(2, 3, 3), rollouts=1)


def test_a_return_that_is_not_finite_stops_at_once() -> None:
    model = fake_world_model(CountingMemory(broken_from=3))
    with pytest.raises(NonFiniteError, match="candidate 0 of 2"):
        scored(model, population(model, 2), rollouts=2)
    assert scored(model, population(model, 2), rollouts=2, horizon=2).isfinite().all()
