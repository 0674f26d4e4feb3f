"""The loop in which agents play, and what they see of the real environment wherever they play."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamenv.agents import resolve_agent
from dreamenv.agents.exploration import agent_with_noise
from dreamenv.data.collect import record_episode
from dreamenv.data.explore import Uniform
from dreamenv.data.preprocess import make_real_env
from dreamenv.envs import DreamEnv, DreamVectorEnv, LatentEnv
from dreamenv.figures.clips import record_real
from dreamenv.scoring import evaluate
from dreamenv.scoring.gap import record_agent
from dreamenv.scoring.play import RealEpisodes, play
from dreamenv.types import Episode, RealEnvSpec, episode_seeds
from dreamenv.world_model import WorldModel
from tests.fakes import DISCRETE, CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model
from tests.own_kinds import PENDULUM, SpyAgent, drawn_model, own_kinds, spy_agent, write_own_bundle


class Counter:
    """Always action 2; its state counts its own calls."""

    action_space = DISCRETE

    def __init__(self, model: WorldModel) -> None:
        self.observation_space = model.observation_space()
        self.calls: list[tuple[Any, list[bool]]] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        assert deterministic
        self.calls.append((state, episode_start.tolist()))
        return np.full(observation.shape[:-1], 2), len(self.calls)


def test_an_episode_is_its_reset_and_what_follows_each_action() -> None:
    model = fake_world_model(CountingMemory(lifetime=3))
    agent = Counter(model)
    env = gym.wrappers.TimeLimit(DreamEnv(model), 7)
    moments = list(play(env, agent, seed=0))
    assert [float(moment.reward) for moment in moments] == [0.0, 3.0, 4.0, 5.0]
    assert [moment.terminated for moment in moments] == [False, False, False, True]
    assert agent.calls == [(None, [True]), (1, [False]), (2, [False])]
    first, _ = env.reset(seed=0)
    assert np.array_equal(moments[0].observation, first)
    assert moments[0].deciding_s == 0.0
    assert all(moment.deciding_s > 0 for moment in moments[1:])
    assert "predicted_reward" in moments[1].info
    assert len(list(play(env, agent, seed=0, steps=2))) == 3
    assert agent.calls[3:] == [(None, [True]), (4, [False])]


def test_a_vector_environment_is_played_until_its_last_row_has_ended() -> None:
    model = fake_world_model(NoisyMemory(death=0.15), max_episode_steps=40)
    envs = DreamVectorEnv(model, 6)
    agent = Counter(model)
    ended = np.zeros(6, int)
    for step, moment in enumerate(play(envs, agent, seed=4)):
        over = np.logical_or(moment.terminated, moment.truncated)
        ended = np.where((ended == 0) & over, step, ended)
    assert ended.min() > 0
    assert ended.max() == step
    assert len(set(ended.tolist())) > 2
    assert agent.calls[0] == (None, [True] * 6)
    assert agent.calls[1] == (1, [False] * 6)


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[Path]:
    with own_kinds():
        yield write_own_bundle(tmp_path)


def seen(act: Callable[[], Any]) -> np.ndarray:
    """What the spies are shown meanwhile."""
    SpyAgent.seen = []
    act()
    return np.stack(SpyAgent.seen)


def test_an_agent_sees_the_same_wherever_it_plays_in_reality(bundle: Path) -> None:
    """In a score, in the gap, while episodes are collected, filmed and in the latent twin: to the bit."""
    seed = episode_seeds("evaluation", 3, 1)[0]

    def collected(probability: float) -> Episode:
        env = make_real_env(PENDULUM)
        where = str(bundle)
        noise = {"probability": (probability, probability)}
        actor = agent_with_noise(env.action_space, np.random.default_rng(0), world_model=where, agent=where, **noise)
        return record_episode(env, actor, seed=seed)

    def twin(actions: Any = None) -> None:
        env, agent = LatentEnv(bundle), spy_agent(drawn_model())
        observation, _ = env.reset(seed=seed)
        for step in range(5):
            action, _ = agent.predict(observation)
            observation, *_ = env.step(action if actions is None else actions[step])

    expected = seen(twin)
    assert expected.shape == (5, 5)
    assert len(set(expected[:, 4])) == 1  # drawn once an episode, and unlike the numbers of others
    for play_it in (
        lambda: evaluate(bundle, episodes=1, seed=3, workers=0),
        lambda: record_agent(bundle, episodes=1, seed=3, workers=0),
        lambda: record_real(WorldModel.load(bundle), bundle, seed=seed),
        lambda: collected(0.0),
    ):
        assert np.array_equal(seen(play_it), expected)
    # With noise it sees what follows the actions that were really taken
    noisy: list[Episode] = []
    shown = seen(lambda: noisy.append(collected(1.0)))
    assert not np.array_equal(shown[1:], expected[1:])
    assert np.array_equal(shown, seen(lambda: twin(noisy[0].actions)))


@pytest.mark.integration
def test_workers_play_with_kinds_that_this_process_alone_has_registered(bundle: Path) -> None:
    model = drawn_model()
    agent = spy_agent(model)
    alone = evaluate(model, agent, episodes=2, workers=0)
    assert evaluate(model, agent, episodes=2, workers=1) == alone
    episodes = [record_agent(model, agent, episodes=2, seed=0, workers=workers) for workers in (0, 1)]
    for one, other in zip(*episodes, strict=True):
        assert np.array_equal(one.observations, other.observations)
        assert np.array_equal(one.actions, other.actions)
        assert (one.seed, one.policy) == (other.seed, other.policy)
        assert one.policy == "spy"


@pytest.mark.parametrize("real", [PENDULUM, RealEnvSpec("CartPole-v1")])
def test_random_actions_are_drawn_from_the_episodes_seed(real: RealEnvSpec) -> None:
    env = make_real_env(real)
    model = trained_like_world_model(action_space=env.action_space, image=False, real=real, latent_size=3)
    with closing(RealEpisodes(model, resolve_agent("random", model))) as episodes:
        found = [next(iter(episodes.record((seed,)))) for seed in (8, 5, 8)]
    expected = record_episode(env, Uniform(env.action_space, np.random.default_rng(8)), seed=8)
    for episode in (found[0], found[2]):
        assert np.array_equal(episode.actions, expected.actions)
        assert episode.actions.dtype == expected.actions.dtype
        assert np.array_equal(episode.observations, expected.observations)
        assert np.array_equal(episode.rewards, expected.rewards)
        assert (episode.seed, episode.policy, episode.real_frames) == (8, "random", expected.real_frames)
    assert not np.array_equal(found[1].actions[:5], expected.actions[:5])
