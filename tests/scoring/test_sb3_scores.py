"""Models of Stable-Baselines3 on the real environment: which observation they are shown, their state, and workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("stable_baselines3")

from stable_baselines3 import DQN, PPO

from dreamenv.data.preprocess import make_real_env
from dreamenv.envs import LatentObservation
from dreamenv.errors import BundleError, ConfigurationError, SpaceMismatchError
from dreamenv.sb3 import DreamVecEnv, algorithm
from dreamenv.scoring import evaluate
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.colour_env import ColourEnv
from tests.fakes import trained_like_world_model
from tests.scoring.test_score import cartpole_model, pendulum_model

SMALL = {"net_arch": [4], "log_std_init": 1.0}


def ppo(model: WorldModel, kind: str = "features", policy: str = "MlpPolicy", name: str = "ppo") -> Any:
    env = DreamVecEnv(model, 2, observation=kind)
    return algorithm(name, model.action_space)(policy, env, policy_kwargs=dict(SMALL), seed=2, device="cpu")


def played_by_hand(model: WorldModel, agent: Any, kind: str, seed: int, *, recurrent: bool = True) -> float:
    env = LatentObservation(make_real_env(model.real), model, observation=kind)
    observation, _ = env.reset(seed=seed)
    state, start, total, over = None, True, 0.0, False
    while not over:
        action, state = agent.predict(observation, state, np.array([start]), deterministic=True)
        state, start = (state, False) if recurrent else (None, True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, over = total + float(reward), terminated or truncated
    return total


@pytest.mark.parametrize("kind", ["features", "latent"])
def test_a_model_is_shown_the_observation_it_was_trained_on(kind: str) -> None:
    model = pendulum_model()
    agent = ppo(model, kind)
    score = evaluate(model, agent, episodes=1, workers=0)
    assert score.returns[0] == played_by_hand(model, agent, kind, score.seeds[0])
    assert dream_returns(model, agent, episodes=3).shape == (3,)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy"])
def test_pictures_are_shown_with_their_channels_last(policy: str) -> None:
    gym.register("Colour-v0", entry_point=ColourEnv)
    try:
        spec = RealEnvSpec("Colour-v0", drop_terminal_observation=True)
        model = trained_like_world_model(action_space=spaces.Discrete(3), real=spec)
        agent = ppo(model, "pixels", policy)
        assert agent.observation_space.shape == (3, 64, 64)
        score = evaluate(model, agent, episodes=1, workers=0)
        assert (score.lengths, score.returns) == ((6,), (12.0,))
        assert dream_returns(model, agent, episodes=2).shape == (2,)
    finally:
        del gym.registry["Colour-v0"]


def test_a_recurrent_policy_keeps_its_state_within_an_episode_and_begins_each_anew() -> None:
    pytest.importorskip("sb3_contrib")
    model = pendulum_model()
    agent = ppo(model, policy="MlpLstmPolicy", name="recurrent_ppo")
    score = evaluate(model, agent, episodes=2, workers=0)
    for seed, found in zip(score.seeds, score.returns, strict=True):
        assert found == played_by_hand(model, agent, "features", seed)
        assert found != played_by_hand(model, agent, "features", seed, recurrent=False)


@pytest.mark.integration
def test_a_file_scores_as_its_model_whatever_the_number_of_workers(tmp_path: Path) -> None:
    model = pendulum_model()
    model.provenance["real_frames"] = 100
    agent = ppo(model)
    alone = evaluate(model, agent, episodes=4, workers=0)
    together = evaluate(model, agent, episodes=4, workers=2)
    assert alone == together
    assert (alone.agent, alone.real_frames) == ("PPO", None)
    agent.provenance = {"real_frames": 20}
    agent.save(tmp_path / "ppo")
    filed = evaluate(model, str(tmp_path / "ppo.zip"), algo="ppo", episodes=4, workers=2)
    assert filed.returns == alone.returns
    assert (filed.agent, filed.real_frames) == (str(tmp_path / "ppo.zip"), 120)


def test_a_class_of_the_users_own_plays_in_this_process() -> None:
    class Own(PPO):
        pass

    model = pendulum_model()
    agent = Own("MlpPolicy", DreamVecEnv(model, 1), policy_kwargs=dict(SMALL), device="cpu")
    assert evaluate(model, agent, episodes=2).episodes == 2
    with pytest.raises(ConfigurationError, match="Own cannot be handed to worker processes"):
        evaluate(model, agent, episodes=2, workers=2)


def test_bad_input(tmp_path: Path) -> None:
    model = pendulum_model()
    other = ppo(trained_like_world_model(action_space=model.action_space, image=False, latent_size=5))
    with pytest.raises(SpaceMismatchError) as caught:
        evaluate(model, other, episodes=1)
    spaces_shown = [f"shape=({size},)" for size in (13, 11, 3)]
    assert all(shown in str(caught.value) for shown in spaces_shown)
    assert "the agent has Box" in str(caught.value)
    assert "features Box" in str(caught.value)
    assert "latent Box" in str(caught.value)
    same_features = trained_like_world_model(action_space=spaces.Discrete(2), image=False, latent_size=3)
    chooser = DQN("MlpPolicy", DreamVecEnv(same_features, 1), buffer_size=9, policy_kwargs={"net_arch": [4]})
    with pytest.raises(SpaceMismatchError, match=r"action spaces differ: the agent has Discrete\(2\), .* has Box"):
        evaluate(model, chooser, episodes=1)
    ppo(model).save(tmp_path / "ppo.zip")
    with pytest.raises(BundleError, match="--algo"):
        evaluate(model, tmp_path / "ppo.zip", episodes=1)
    with pytest.raises(ConfigurationError, match="was not saved by sac. Load it as ppo"):
        evaluate(model, tmp_path / "ppo.zip", algo="sac", episodes=1)
    for nameless in (None, "random", chooser):
        with pytest.raises(ConfigurationError, match="name it: --agent FILE.zip --algo ppo"):
            evaluate(model, nameless, algo="ppo", episodes=1)
    with pytest.raises(ConfigurationError, match="dqn takes Discrete actions, these are Box"):
        evaluate(model, tmp_path / "ppo.zip", algo="dqn", episodes=1)
    with pytest.raises(ConfigurationError, match="sac takes Box actions, these are Discrete"):
        evaluate(cartpole_model(), tmp_path / "ppo.zip", algo="sac", episodes=1)
