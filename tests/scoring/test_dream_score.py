from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamenv.agents import RandomAgent
from dreamenv.agents.evolution import evolve
from dreamenv.agents.imagination import train_actor_critic
from dreamenv.agents.options import EvolutionOptions, ImaginationOptions
from dreamenv.errors import ConfigurationError, SpaceMismatchError
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.world_model import WorldModel
from tests.fakes import DISCRETE, CountingMemory, NoisyMemory, fake_world_model, trained_like_world_model


class Constant:
    """Always the same action; notes the states and starts it is given."""

    action_space = DISCRETE

    def __init__(self, model: WorldModel, action: int, observation: str = "features") -> None:
        self.observation_space = model.observation_space(observation)
        self.observation = observation
        self._action = action
        self.calls: list[tuple[Any, list[bool]]] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        assert self.observation_space.shape == observation.shape[1:]
        self.calls.append((state, episode_start.tolist()))
        return np.full(len(observation), self._action), len(self.calls)


def test_returns_of_dreams_that_are_known() -> None:
    # The reward is the action plus the age: 2 + 1, 2 + 2, ... over the 7 actions of the time limit
    model = fake_world_model(CountingMemory())
    assert dream_returns(model, Constant(model, 2), episodes=3).tolist() == [2 * 7 + 28] * 3
    # Replay states have an age of 2 already
    assert dream_returns(model, Constant(model, 2), episodes=2, start="replay").tolist() == [2 * 7 + 28 + 14] * 2


def test_a_dream_counts_to_its_own_end_alone() -> None:
    model = fake_world_model(CountingMemory(lifetime=3))
    assert dream_returns(model, Constant(model, 1), episodes=2).tolist() == [3 + 6] * 2
    model = fake_world_model(NoisyMemory(death=0.3), max_episode_steps=40)
    many = dream_returns(model, Constant(model, 1), episodes=12, seed=5)
    for index in (0, 7, 11):  # dream i is that of seed + i, whatever goes on beside it and however long
        alone = dream_returns(model, Constant(model, 1), episodes=1, seed=5 + index)
        assert alone[0] == pytest.approx(many[index], rel=1e-5)
    assert len(set(many.round(6))) == 12


def test_the_agent_reads_what_it_was_trained_on_and_keeps_its_state() -> None:
    model = fake_world_model(CountingMemory(), max_episode_steps=3)
    agent = Constant(model, 1, "latent")
    dream_returns(model, agent, episodes=2)
    assert agent.calls == [(None, [True, True]), (1, [False, False]), (2, [False, False])]


def test_temperature_reaches_the_dream() -> None:
    model = fake_world_model(NoisyMemory(death=0.0))
    agent = Constant(model, 1)
    own = dream_returns(model, agent, episodes=4)
    assert np.array_equal(own, dream_returns(model, agent, episodes=4, temperature=1.0))
    assert not np.allclose(own, dream_returns(model, agent, episodes=4, temperature=2.0))


def test_a_dream_by_its_folder(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    model.save(tmp_path)
    own = dream_returns(model, "random", episodes=3)
    for source in (tmp_path, str(tmp_path)):
        np.testing.assert_array_equal(dream_returns(source, "random", episodes=3), own)
    evolved = evolve(tmp_path, out_dir=tmp_path / "linear", options=EvolutionOptions(generations=1, population=4))
    assert evolved.agent.observation_space == model.observation_space()
    learned = train_actor_critic(
        str(tmp_path), out_dir=tmp_path / "actor", options=ImaginationOptions(steps=1, batch_size=2, horizon=2, width=4)
    )
    assert learned.agent.action_space == model.action_space
    with pytest.raises(ConfigurationError, match="got int, expected a WorldModel, a registered id or a bundle"):
        evolve(3, out_dir=tmp_path / "none")  # type: ignore[arg-type]


def test_bad_input() -> None:
    model = fake_world_model(replay=False)
    with pytest.raises(ConfigurationError, match="episodes must be at least 1"):
        dream_returns(model, Constant(model, 1), episodes=0)
    with pytest.raises(ConfigurationError, match="holds no replay start states"):
        dream_returns(model, Constant(model, 1), start="replay")
    other = RandomAgent(model.observation_space(), spaces.Discrete(7), generator=0)
    with pytest.raises(SpaceMismatchError, match="action spaces differ"):
        dream_returns(model, other)
