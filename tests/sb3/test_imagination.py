"""Agents that imagine: what the extractor dreams, that a policy learns from it, and the example of its docstring."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import VecNormalize

from dreamenv.errors import ConfigurationError, SpaceMismatchError
from dreamenv.sb3 import DreamVecEnv, ImaginationAugmented, ImitateInImagination, imagination
from tests.agents.small_dreams import CHOICE, MOVE, StairsMemory, TargetMemory, small_dream

MODEL = small_dream(StairsMemory(), CHOICE)
STATE = MODEL.observation_space("state")
SMALL: dict[str, Any] = {"world_model": MODEL, "steps": 3, "hidden_size": 4, "width": 5}


def test_the_example() -> None:
    found = doctest.DocTestFinder().find(imagination, "imagination")
    example = next(test for test in found if test.examples)
    assert len(example.examples) == 7
    result = doctest.DocTestRunner().run(example)
    assert (result.attempted, result.failed) == (7, 0)


def test_each_action_begins_a_rollout() -> None:
    extractor = ImaginationAugmented(STATE, **SMALL)
    with torch.no_grad():
        extractor.rollout_policy[-1].bias.copy_(torch.tensor([0.0, 100.0, 0.0]))  # type: ignore[operator]
    seen, reward, goes_on = extractor._dream(MODEL.memory_state(torch.tensor([[0.0], [5.0]])))
    # Down, stay or up once, and staying from then on; a step up costs 3
    assert seen[:, :, 0].tolist() == [[-1, 0, 1, 4, 5, 6]] * 3
    assert reward.tolist() == [[-1, 0, -2, 4, 5, 3], [-1, 0, 1, 4, 5, 6], [-1, 0, 1, 4, 5, 6]]
    assert goes_on.tolist() == [[1] * 6] * 3
    found = extractor(torch.tensor([[0.0], [5.0]]))
    assert found.shape == (2, extractor.features_dim) == (2, 5 + 3 * 4)
    again = extractor(torch.tensor([[5.0]]))
    torch.testing.assert_close(again[0], found[1])


def test_rewards_behind_an_end_do_not_count() -> None:
    model = small_dream(StairsMemory(ends=0.5), CHOICE)
    extractor = ImaginationAugmented(STATE, **SMALL | {"world_model": model})
    with torch.no_grad():
        extractor.rollout_policy[-1].bias.copy_(torch.tensor([0.0, 100.0, 0.0]))  # type: ignore[operator]
    _, reward, goes_on = extractor._dream(model.memory_state(torch.tensor([[8.0]])))
    assert reward[:, 1].tolist() == [8, 4, 2]
    assert goes_on[:, 1].tolist() == [0.5, 0.25, 0.125]


def test_gradients_reach_the_encoder_and_not_the_model() -> None:
    extractor = ImaginationAugmented(STATE, **SMALL)
    extractor(torch.tensor([[0.5]])).sum().backward()
    moved = {name.partition(".")[0] for name, part in extractor.named_parameters() if part.grad is not None}
    assert moved == {"direct", "step_encoder", "rollout_encoder"}
    without = ImaginationAugmented(STATE, **SMALL, imagine=False)
    assert without.features_dim == extractor.features_dim
    first, second = without(torch.tensor([[0.0], [9.0]]))
    torch.testing.assert_close(first[5:], second[5:])
    assert not torch.allclose(*extractor(torch.tensor([[0.0], [9.0]]))[:, 5:])


def test_ppo_learns_with_it_and_the_rollout_policy_follows(tmp_path: Path) -> None:
    kwargs = {"features_extractor_class": ImaginationAugmented, "features_extractor_kwargs": SMALL}
    envs = DreamVecEnv(MODEL, num_envs=8, observation="state")
    learner = PPO(
        "MlpPolicy", envs, policy_kwargs=kwargs, n_steps=16, batch_size=64, n_epochs=2, device="cpu", seed=1, gamma=0.99
    )
    extractor: Any = learner.policy.features_extractor
    seen = torch.linspace(-1, 1, 20).unsqueeze(1)

    def apart() -> float:
        with torch.no_grad():
            own = learner.policy.get_distribution(seen).distribution.probs  # type: ignore[union-attr]
            return float((own - extractor.rollout_logits(seen).softmax(-1)).abs().mean())

    with torch.no_grad():
        extractor.rollout_policy[-1].bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
    before = apart()
    learner.learn(256, callback=ImitateInImagination(steps=60, batch_size=32, learning_rate=0.05))
    assert apart() < 0.5 * before
    learner.save(tmp_path / "ppo.zip")
    again = PPO.load(tmp_path / "ppo.zip", device="cpu")
    observation = np.array([[0.3]], np.float32)
    first, second = (found.predict(observation, deterministic=True)[0] for found in (learner, again))
    np.testing.assert_array_equal(first, second)


def test_the_rollout_policies_of_actor_and_critic_are_taught() -> None:
    kwargs = {"features_extractor_class": ImaginationAugmented, "features_extractor_kwargs": SMALL}
    kwargs["share_features_extractor"] = False
    envs = DreamVecEnv(MODEL, num_envs=2, observation="state")
    learner = PPO("MlpPolicy", envs, policy_kwargs=kwargs, n_steps=8, batch_size=16, n_epochs=1, device="cpu", seed=1)
    both = [part for part in learner.policy.modules() if isinstance(part, ImaginationAugmented)]
    before = [part.rollout_policy[-1].bias.detach().clone() for part in both]  # type: ignore[union-attr]
    learner.learn(16, callback=ImitateInImagination())
    assert len(both) == 2
    for part, bias in zip(both, before, strict=True):
        assert not torch.equal(part.rollout_policy[-1].bias, bias)  # type: ignore[arg-type]


def test_bad_input() -> None:
    box = small_dream(TargetMemory(), MOVE)
    with pytest.raises(ConfigurationError, match="a rollout for each Discrete action, got Box"):
        ImaginationAugmented(box.observation_space("state"), box)
    with pytest.raises(ConfigurationError, match="steps must be an integer of at least 1, got 0"):
        ImaginationAugmented(STATE, MODEL, steps=0)
    with pytest.raises(SpaceMismatchError, match="observations of kind 'state'"):
        ImaginationAugmented(CHOICE, MODEL)
    kwargs = {"features_extractor_class": ImaginationAugmented, "features_extractor_kwargs": SMALL}
    states = VecNormalize(DreamVecEnv(MODEL, num_envs=1, observation="state"))
    with pytest.raises(ConfigurationError, match="wrap with norm_obs=False"):
        PPO("MlpPolicy", states, policy_kwargs=kwargs, n_steps=4, batch_size=4).learn(
            4, callback=ImitateInImagination()
        )
    learner = DQN("MlpPolicy", DreamVecEnv(MODEL, num_envs=1), buffer_size=10, learning_starts=100)
    with pytest.raises(ConfigurationError, match=r"on-policy algorithm \(PPO, A2C\)"):
        learner.learn(1, callback=ImitateInImagination())
