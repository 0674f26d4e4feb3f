"""PETS by the loop: an ensemble and a planner from few episodes on, and rounds that explore by curiosity first."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dreamenv.agents.mpc import MPCAgent, mpc_agent
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.explore import Exploration
from dreamenv.errors import ConfigurationError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.planners.shooting import RandomShooting
from dreamenv.scoring.play import RealEpisodes
from dreamenv.training.pipeline import TrainOptions
from dreamenv.training.recipes.ensemble import EnsembleMemoryOptions, EnsembleOptions
from dreamenv.training.recipes.fit_ensemble import EnsembleFitOptions
from dreamenv.types import RealEnvSpec
from dreamenv.workflows.loop import Round, run_loop
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.world_model import WorldModel

REAL = RealEnvSpec("Pendulum-v1", max_episode_steps=12)
ENSEMBLE = EnsembleOptions(
    EnsembleMemoryOptions(members=3, elites=2, hidden_size=8, layers=1),
    EnsembleFitOptions(batch_size=16, max_epochs=2),
)
PETS = LoopOptions(
    rounds=3,
    first_frames=24,
    greedy_episodes=1,
    noisy_episodes=0,
    curious_rounds=2,
    train=TrainOptions("ensemble", ENSEMBLE, replay_starts=8),
    learner="planner:shooting,candidates=8,horizon=2",
    validation_episodes=1,
)

GUIDED = replace(
    PETS,
    curious_rounds=0,
    rounds=2,
    learner="actor-critic",
    agent=ImaginationOptions(steps=2, batch_size=4, horizon=3, width=8),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Round]]:
    folder = tmp_path_factory.mktemp("pets")
    explore = (Exploration("uniform"),)
    return folder, run_loop(REAL, folder, PETS, explore=explore, workers=0, seed=2)


def test_it_goes_on_from_a_handful_of_random_episodes_by_one_episode_a_round(run: tuple[Path, list[Round]]) -> None:
    folder, table = run
    # Two episodes of exploration, one a later round, and one of validation in each
    assert [row.real_frames for row in table] == [36, 60, 84]
    assert [len(EpisodeStore(folder / "episodes" / f"{number:02d}")) for number in range(3)] == [2, 1, 1]


def test_curious_rounds_collect_by_disagreement_and_are_scored_by_the_reward(run: tuple[Path, list[Round]]) -> None:
    folder, table = run
    for number in range(3):
        curious = folder / "rounds" / f"{number:02d}" / "curious_bundle"
        assert curious.exists() == (number < 2)
        if number < 2:
            memory = WorldModel.load(curious).memory
            assert isinstance(memory, ProbabilisticEnsemble)
            assert (memory.reward_weight, memory.bonus) == (0.0, 1.0)
        memory = WorldModel.load(folder / "rounds" / f"{number:02d}" / "bundle").memory
        assert isinstance(memory, ProbabilisticEnsemble)
        assert (memory.reward_weight, memory.bonus) == (1.0, 0.0)
    assert all(row.dream_mean < 0 for row in table), "Pendulum's rewards are negative, the disagreement is not"


def test_the_episode_behind_a_curious_round_is_another_one(run: tuple[Path, list[Round]], tmp_path: Path) -> None:
    folder, _ = run
    plain = LoopOptions(**{**vars(PETS), "curious_rounds": 0, "rounds": 2})
    run_loop(REAL, tmp_path, plain, explore=(Exploration("uniform"),), workers=0, seed=2)
    found = [next(iter(EpisodeStore(root / "episodes" / "01"))).actions for root in (folder, tmp_path)]
    assert (found[0] != found[1]).any()


def test_a_loop_of_curious_rounds_alone_says_so(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"all 1 rounds are curious \(curious_rounds=2\)"):
        run_loop(REAL, tmp_path, replace(PETS, rounds=1), explore=(Exploration("uniform"),), workers=0)


def test_an_actor_critic_learns_in_the_dream_and_guides_the_planner(tmp_path: Path) -> None:
    guided = replace(
        GUIDED,
        learner="actor-critic:shooting,candidates=8,horizon=2",
        agent=ImaginationOptions(steps=3, batch_size=4, horizon=3, width=8, discount=0.9),
    )
    run_loop(REAL, tmp_path, guided, explore=(Exploration("uniform"),), workers=0, seed=2)
    model = WorldModel.load(tmp_path / "bundle")
    player = guided.make_learner().player(tmp_path / "agent").resolve(model).agent
    assert isinstance(player, MPCAgent)
    kept = load_agent(tmp_path / "agent")
    assert isinstance(kept, ActorCriticAgent)
    assert kept.guide is not None
    assert isinstance(player.planner, RandomShooting)
    assert player.planner.policy is not None
    assert player.planner.terminal_value is not None
    features = torch.randn(5, model.memory.feature_size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(player.planner.policy(features), kept.guide.action(features))
    assert torch.equal(player.planner.terminal_value(features), kept.guide.value(features))
    assert player.planner.discount == 0.9
    named = mpc_agent(f"planner:shooting,discount=0.9,guide={tmp_path}", model).planner  # the run is enough
    assert isinstance(named, RandomShooting)
    assert named.terminal_value is not None
    assert torch.equal(named.terminal_value(features), kept.guide.value(features))
    # The round's episode was played by the planner, with the agent of the round before
    (episode,) = EpisodeStore(tmp_path / "episodes" / "01")
    first = guided.make_learner().player(tmp_path / "rounds" / "00" / "agent")
    seeing = WorldModel.load(tmp_path / "rounds" / "00" / "bundle")
    with closing(RealEpisodes(seeing, first.resolve(seeing))) as real:
        (again,) = real.record([episode.seed])
        np.testing.assert_allclose(again.actions, episode.actions, atol=1e-6)


def test_a_tree_search_is_guided_too(tmp_path: Path) -> None:
    guided = replace(GUIDED, learner="actor-critic:mcts,simulations=3,horizon=2")
    real = RealEnvSpec("CartPole-v1", max_episode_steps=12)
    run_loop(real, tmp_path, guided, explore=(Exploration("uniform"),), workers=0, seed=2)
    with pytest.raises(
        ConfigurationError, match=r"guide=.*of discount=0\.97, those of plans of discount=0\.9; give the"
    ):
        replace(guided, agent=None, learner=f"planner:mcts,discount=0.9,guide={tmp_path}").make_learner()


def test_bad_options() -> None:
    with pytest.raises(ConfigurationError, match="curious_rounds must be at least 0"):
        LoopOptions(curious_rounds=-1)
    with pytest.raises(ConfigurationError, match="curiosity learns by rounds"):
        LoopOptions(curious_rounds=1, update_every=1, train_ratio=4.0)
