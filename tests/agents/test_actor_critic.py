from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.agents.actor_critic import Actor, ActorCritic, Critic
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.agents.saved import save_agent
from dreamenv.errors import BundleError, ConfigurationError, NonFiniteError, SpaceMismatchError
from dreamenv.memory.actions import ActionEncoder
from dreamenv.noise.base import GeneratorNoise
from tests.fakes import draw_weights

FEATURES = 4
OBSERVATION = spaces.Box(-10, 10, (FEATURES,), np.float32)
BOX = spaces.Box(np.array([-1.0, 0.0, 0.0], np.float32), np.array([1.0, 1.0, 1.0], np.float32))
DISCRETE = spaces.Discrete(4, start=1)
SPACES = pytest.mark.parametrize("space", [BOX, DISCRETE], ids=["box", "discrete"])


def actor(space: Any, **kwargs: Any) -> Actor:
    made = Actor(FEATURES, space, width=8, **kwargs)
    draw_weights(made, torch.Generator().manual_seed(1))
    return made


def agent(space: Any, **kwargs: Any) -> ActorCriticAgent:
    return ActorCriticAgent(actor(space), OBSERVATION, space, **kwargs)


def observations(count: int = 16) -> Any:
    return np.random.default_rng(0).normal(size=(count, FEATURES)).astype(np.float32)


@SPACES
def test_predict_takes_one_or_a_batch(space: Any) -> None:
    player, seen = agent(space), observations()
    batch, state = player.predict(seen, "kept")
    assert state == "kept"
    assert batch.shape == (16, *space.shape)
    assert len({tuple(np.atleast_1d(action).tolist()) for action in batch}) > 1
    for row, action in zip(seen, batch, strict=True):
        single, _ = player.predict(row)
        assert single.shape == space.shape
        assert space.contains(single if single.ndim else np.int64(single))
        np.testing.assert_allclose(single, action, atol=1e-6)


@SPACES
def test_deterministic_actions_repeat_and_sampled_ones_follow_the_seed(space: Any) -> None:
    seen = observations()
    player = agent(space, seed=5)
    assert np.array_equal(player.predict(seen)[0], player.predict(seen)[0])
    sampled = [player.predict(seen, deterministic=False)[0] for _ in range(2)]
    assert not np.array_equal(*sampled)
    again = agent(space, seed=5)
    assert np.array_equal(again.predict(seen, deterministic=False)[0], sampled[0])
    assert not np.array_equal(agent(space, seed=6).predict(seen, deterministic=False)[0], sampled[0])
    assert all(space.contains(action) for action in sampled[0])


def test_discrete_samples_have_the_policys_probabilities() -> None:
    player = agent(DISCRETE)
    seen = np.repeat(observations(1), 20_000, axis=0)
    with torch.no_grad():
        expected = 0.99 * player.actor.network(torch.from_numpy(seen[:1]))[0].softmax(-1).numpy() + 0.01 / 4
    chosen, _ = player.predict(seen, deterministic=False)
    share = np.bincount(chosen - 1, minlength=4) / len(chosen)
    np.testing.assert_allclose(share, expected, atol=0.015)
    assert player.predict(seen[0])[0] == 1 + expected.argmax()


def test_box_samples_are_squashed_gaussians() -> None:
    policy = actor(spaces.Box(-1, 1, (1,), np.float32))
    seen = torch.from_numpy(observations(1)).expand(20_000, -1)
    with torch.no_grad():
        mean, spread = policy.network(seen[:1])[0].tolist()
        std = 0.05 + 1.45 / (1 + np.exp(-spread))
        choice = policy.sample(seen, GeneratorNoise(torch.Generator().manual_seed(0)))
    before = np.arctanh(np.clip(choice.action.numpy(), -1 + 1e-6, 1 - 1e-6))
    assert before.mean() == pytest.approx(mean, abs=0.05)
    assert before.std() == pytest.approx(std, abs=0.05)
    assert float(choice.entropy[0]) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * std**2), abs=1e-4)
    assert policy.mode(seen[:1]).item() == pytest.approx(np.tanh(mean), abs=1e-5)


def test_discrete_samples_are_one_hot_with_the_gradient_of_the_probabilities() -> None:
    policy = actor(DISCRETE)
    seen = torch.from_numpy(observations(3))
    choice = policy.sample(seen, GeneratorNoise(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(choice.action.sum(1), torch.ones(3))
    assert torch.equal(ActionEncoder(DISCRETE)(choice.action), choice.action)  # as memory models read it
    worth = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (choice.action * worth).sum().backward()
    straight = policy.network[0].weight.grad.clone()
    policy.zero_grad()
    ((0.99 * policy.network(seen).softmax(-1)) * worth).sum().backward()
    torch.testing.assert_close(straight, policy.network[0].weight.grad)
    probability = (0.99 * policy.network(seen).softmax(-1) + 0.0025).detach()
    torch.testing.assert_close(choice.entropy, -(probability * probability.log()).sum(-1))


def test_throttle_never_presses_gas_and_brake_together() -> None:
    policy = actor(BOX, action_map="throttle")
    action = policy.sample(torch.from_numpy(observations(64)), GeneratorNoise(torch.Generator().manual_seed(0))).action
    assert action.shape == (64, 3)
    assert (action[:, 1] > 0).any()
    assert (action[:, 2] > 0).any()
    assert not ((action[:, 1] > 0) & (action[:, 2] > 0)).any()


def test_fresh_actors_begin_in_the_middle() -> None:
    middle = Actor(FEATURES, BOX, width=8).mode(torch.from_numpy(observations()))
    torch.testing.assert_close(middle, torch.tensor([0.0, 0.5, 0.5]).expand(16, 3), atol=0.03, rtol=0)


def test_the_critic_begins_at_zero_and_learns_what_it_is_told() -> None:
    critic = Critic(1, width=16)
    places = torch.linspace(-1, 1, 64).unsqueeze(1)
    assert torch.allclose(critic(places), torch.zeros(64), atol=1e-4)
    wanted = 50 * places.squeeze(1)
    optimiser = torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(300):
        optimiser.zero_grad()
        critic.loss(places, wanted).mean().backward()
        optimiser.step()
    assert float((critic(places) - wanted).detach().abs().mean()) < 3


def test_the_slow_critic_follows() -> None:
    networks = ActorCritic(FEATURES, BOX, width=8)
    slow = [parameter.clone() for parameter in networks.target.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(slow, networks.critic.parameters(), strict=True))
    with torch.no_grad():
        for parameter in networks.critic.parameters():
            parameter.add_(1.0)
    for rate, expected in ((0.0, 0.0), (0.25, 0.25), (0.25, 0.4375), (1.0, 1.0)):
        networks.follow(rate)
        for now, before in zip(networks.target.parameters(), slow, strict=True):
            torch.testing.assert_close(now - before, torch.full_like(now, expected))
    assert not any(parameter.requires_grad for parameter in networks.target.parameters())


@SPACES
def test_saved_and_loaded_it_acts_the_same(space: Any, tmp_path: Path) -> None:
    saved = agent(space, provenance={"real_frames": 12})
    loaded = load_agent(save_agent(saved, tmp_path))
    assert isinstance(loaded, ActorCriticAgent)
    assert (loaded.observation, loaded.provenance) == ("features", {"real_frames": 12})
    assert (loaded.observation_space, loaded.action_space) == (OBSERVATION, space)
    assert np.array_equal(loaded.predict(observations())[0], saved.predict(observations())[0])


@SPACES
def test_saved_with_its_critic_it_guides_alike(space: Any, tmp_path: Path) -> None:
    critic = Critic(FEATURES, width=8, bound=50.0)
    draw_weights(critic, torch.Generator().manual_seed(2))
    saved = agent(space, critic=critic, discount=0.9)
    loaded = load_agent(save_agent(saved, tmp_path))
    assert isinstance(loaded, ActorCriticAgent)
    assert saved.guide is not None
    assert loaded.guide is not None
    assert loaded.config().items() >= {"value_bound": 50.0, "discount": 0.9}.items()
    seen = torch.from_numpy(observations())
    assert torch.equal(loaded.guide.value(seen), saved.guide.value(seen))
    assert len(set(loaded.guide.value(seen).tolist())) > 1
    proposed = loaded.guide.action(seen).detach()
    assert np.array_equal(saved.actor.to_action.to_numpy(proposed), saved.predict(seen.numpy())[0])
    assert agent(space).guide is None


def test_the_action_map_is_saved(tmp_path: Path) -> None:
    saved = ActorCriticAgent(actor(BOX, action_map="throttle"), OBSERVATION, BOX)
    assert load_agent(save_agent(saved, tmp_path)).config() == {"width": 8, "action_map": "throttle"}


def test_bad_input(tmp_path: Path) -> None:
    player = agent(BOX)
    with pytest.raises(SpaceMismatchError, match=r"observation of shape \(3,\); this agent reads \(4,\)"):
        player.predict(np.zeros(3, np.float32))
    for broken in (np.nan, np.inf):
        with pytest.raises(NonFiniteError, match="not finite"):
            player.predict(np.full(FEATURES, broken, np.float32))
    with pytest.raises(ConfigurationError, match="does not fit"):
        Actor(FEATURES, BOX, action_map="argmax")
    with pytest.raises(ConfigurationError, match="no finite bounds"):
        Actor(FEATURES, spaces.Box(-np.inf, np.inf, (2,), np.float32))
    parts: dict[str, Any] = {"observation": "pixels", "provenance": {}, "width": 8}
    pictures = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(SpaceMismatchError, match="one-dimensional Box"):
        ActorCriticAgent.from_tensors(player.tensors(), observation_space=pictures, action_space=BOX, **parts)
    with pytest.raises(ConfigurationError, match="do not fit the actor"):
        ActorCriticAgent.from_tensors(
            player.tensors(), observation_space=OBSERVATION, action_space=DISCRETE, **(parts | {"width": 9})
        )
    parts = {"observation_space": OBSERVATION, "action_space": BOX, "observation": "features", "provenance": {}}
    with pytest.raises(ConfigurationError, match=r"do not fit the actor: .*Critic"):
        ActorCriticAgent.from_tensors(player.tensors(), **parts, width=8, value_bound=50.0)
    file = save_agent(player, tmp_path)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(BundleError, match="cut short"):
        load_agent(file)
