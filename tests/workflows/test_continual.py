"""The loop that learns after every episode."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from safetensors.numpy import load_file

from dreamenv.agents.imagination import Imagination, new_actor_critic
from dreamenv.agents.mpc import MPCAgent
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.data.episodes import EpisodeStore
from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.scoring import evaluate
from dreamenv.training.checkpoint import below, load_tensors
from dreamenv.training.ledger import read_ledger
from dreamenv.training.pipeline import TrainOptions
from dreamenv.types import RealEnvSpec
from dreamenv.workflows import continual
from dreamenv.workflows.loop import Round, run_loop
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.world_model import WorldModel

PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=20)
TINY = LoopOptions(
    rounds=2,
    first_frames=40,
    greedy_episodes=1,
    noisy_episodes=2,
    train=TrainOptions(
        "rssm",
        {
            "network": {"width": 16},
            "memory": {"hidden_size": 16, "groups": 2, "classes": 4, "width": 16},
            "fit": {"batch_size": 4, "sequence_length": 5, "precision": "float32"},
        },
        replay_starts=8,
    ),
    train_ratio=2.0,
    update_every=1,
    agent={"batch_size": 8, "horizon": 3, "width": 8},
    validation_episodes=2,
)


def loop(folder: Path, options: LoopOptions = TINY, **kwargs: Any) -> list[Round]:
    return run_loop(PENDULUM, folder, options, **({"workers": 0, "seed": 3} | kwargs))


def contents(folder: Path) -> dict[str, Any]:
    """What a loop leaves behind, but for provenance."""
    found: dict[str, Any] = {"table": json.loads((folder / "rounds.json").read_text(encoding="utf-8"))}
    found["ledger"] = read_ledger(folder)
    found["episodes"] = [episode.rewards.tolist() for episode in EpisodeStore(folder / "episodes")]
    for file in ("bundle/model.safetensors", "bundle/starts.safetensors", "agent/agent.safetensors"):
        found |= {f"{file}/{name}": part.tolist() for name, part in load_file(folder / file).items()}
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    told: list[Round] = []
    assert loop(folder, on_round=told.append) == told
    return folder


@pytest.mark.integration
def test_every_round_leaves_model_agent_and_a_row(unbroken: Path) -> None:
    first, second = contents(unbroken)["table"]
    assert read_ledger(unbroken) == {"collect 0": 40, "validation 0": 40, "collect 1": 60, "validation 1": 40}
    assert (first["real_frames"], second["real_frames"]) == (80, 180)
    assert {"reward_r2", "divergence"} <= first["held_out"].keys()
    assert "reward_r2" in first["gap"]
    checkpoint, record = continual.load_tensors(unbroken / "continual.safetensors")
    assert record == {"step": 2 * 100 // 20, "round": 1, "episodes": 3}, "each real action is replayed twice"
    assert {name.split(".")[0] for name in checkpoint} == {"fit", "agent"}
    policies = [episode.policy for episode in EpisodeStore(unbroken / "episodes" / "01")]
    assert set(policies) <= {"agent", "agent, sampled"}
    score = evaluate(unbroken / "bundle", unbroken / "agent", episodes=2, seed=3, role="validation", workers=0)
    assert score.mean == pytest.approx(max(first["real_mean"], second["real_mean"]), rel=1e-4)
    assert load_agent(unbroken / "agent").provenance["trained_in"] == "dream"
    assert WorldModel.load(unbroken / "bundle").real.frames_per_second == 30, "as Pendulum declares"


@pytest.mark.integration
def test_the_next_episode_is_played_by_what_was_learned(unbroken: Path, tmp_path: Path) -> None:
    """Without an update in between, the episodes of a later round differ from those of the loop that learns."""
    loop(tmp_path, replace(TINY, update_every=1000))
    ours, other = (EpisodeStore(folder / "episodes" / "01") for folder in (unbroken, tmp_path))
    np.testing.assert_array_equal(ours[0].actions, other[0].actions)
    assert not np.array_equal(ours[1].actions, other[1].actions)
    assert not np.array_equal(ours[2].actions, other[2].actions)


@pytest.mark.integration
@pytest.mark.parametrize(("greedy", "policy"), [(2, "agent"), (0, "agent, sampled")])
def test_episodes_are_greedy_or_noisy_as_asked(greedy: int, policy: str, tmp_path: Path) -> None:
    loop(tmp_path, replace(TINY, greedy_episodes=greedy, noisy_episodes=2 - greedy))
    assert [episode.policy for episode in EpisodeStore(tmp_path / "episodes" / "01")] == [policy, policy]


class Killed(Exception):
    pass


@pytest.mark.integration
@pytest.mark.parametrize("at", [2, 5, 8])
@pytest.mark.parametrize("often", [True, False])
def test_a_killed_loop_ends_as_an_unbroken_one(
    at: int, often: bool, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after update `at`, with a checkpoint after each update or at the ends of rounds alone."""
    if often:
        monkeypatch.setattr(continual, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    whole = continual.ContinualLearner._update

    def deadly(self: continual.ContinualLearner, step: int) -> None:
        if step == at:
            raise Killed
        whole(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(continual.ContinualLearner, "_update", deadly)
        with pytest.raises(Killed):
            loop(tmp_path)
    played = len(EpisodeStore(tmp_path / "episodes"))
    loop(tmp_path)
    assert contents(tmp_path) == contents(unbroken)
    assert played >= 2


@pytest.mark.integration
def test_a_killed_loop_measures_all_its_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before its last bundle, where the last episode has brought no update."""
    lazy = replace(TINY, train_ratio=0.5)
    loop(tmp_path / "unbroken", lazy)
    whole = continual.ContinualLearner.world_model

    def deadly(self: continual.ContinualLearner, provenance: dict[str, Any]) -> WorldModel:
        if provenance["round"] == 1:
            raise Killed
        return whole(self, provenance)

    with monkeypatch.context() as patched:
        patched.setattr(continual.ContinualLearner, "world_model", deadly)
        with pytest.raises(Killed):
            loop(tmp_path / "killed", lazy)
    loop(tmp_path / "killed", lazy)
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


@pytest.mark.integration
def test_a_loop_goes_on_without_an_episode_that_was_set_aside(tmp_path: Path) -> None:
    loop(tmp_path)
    for number in ("00", "01"):
        store = EpisodeStore(tmp_path / "episodes" / number)
        store.set_aside(store.file(1))
    table = loop(tmp_path, replace(TINY, rounds=3))
    assert len(table) == 3
    assert [len(EpisodeStore(tmp_path / "episodes" / f"0{number}")) for number in range(3)] == [1, 2, 3]


@pytest.mark.integration
def test_a_loop_without_its_checkpoint_cannot_go_on(unbroken: Path, tmp_path: Path) -> None:
    loop(tmp_path, replace(TINY, rounds=1))
    (tmp_path / "continual.safetensors").unlink()
    with pytest.raises(BundleError, match=r"continual\.safetensors is missing"):
        loop(tmp_path)


@pytest.mark.integration
def test_a_planner_plays_while_the_model_learns(tmp_path: Path) -> None:
    planner = replace(
        TINY,
        learner="planner:cem,horizon=2,candidates=6,elites=2,iterations=1",
        agent=None,
        rounds=1,
        validation_episodes=1,
    )
    (row,) = loop(tmp_path, planner)
    assert np.isfinite(row.real_mean)
    assert not (tmp_path / "agent").exists(), "a planner leaves no file"
    (second,) = loop(tmp_path, replace(planner, rounds=2))[1:]
    assert {episode.policy.split(" ")[0] for episode in EpisodeStore(tmp_path / "episodes" / "01")}
    assert second.real_frames == row.real_frames + 80


@pytest.mark.integration
def test_an_actor_critic_that_learns_guides_a_planner(tmp_path: Path) -> None:
    """The planner that plays is the one that what is kept makes."""
    options = replace(TINY, learner="actor-critic:shooting,candidates=4,horizon=2", rounds=1, validation_episodes=1)
    loop(tmp_path, options)
    agent = load_agent(tmp_path / "agent")
    assert isinstance(agent, ActorCriticAgent)
    model = WorldModel.load(tmp_path / "bundle")
    live = options.make_learner().live(model, seed=3, checkpoint=tmp_path / "none")
    live.load(below("agent.", load_tensors(tmp_path / "continual.safetensors")[0]))
    now = live.as_it_is().planner(model)
    assert now is not None
    kept = load_agent(options.make_learner().player(tmp_path / "agent").agent, world_model=model)
    seen = np.random.default_rng(0).normal(size=(4, *now.observation_space.shape)).astype(np.float32)
    assert np.array_equal(now.predict(seen)[0], kept.predict(seen)[0])


def test_bad_options() -> None:
    with pytest.raises(ConfigurationError, match="update_every must be at least 1, and it needs a train_ratio"):
        LoopOptions(update_every=1)
    with pytest.raises(ConfigurationError, match="update_every must be at least 1"):
        LoopOptions(update_every=0, train_ratio=1.0)
    with pytest.raises(ConfigurationError, match="learns by rounds"):
        LoopOptions(update_every=1, train_ratio=1.0, learner="evolve")
    with pytest.raises(ConfigurationError, match="evolve takes nothing behind its name"):
        LoopOptions(learner="evolve:cma")
    with pytest.raises(ConfigurationError, match="needs the planner's name"):
        LoopOptions(learner="planner")
    with pytest.raises(ConfigurationError, match="learner 'evolv' is not known"):
        LoopOptions(learner="evolv")
    with pytest.raises(ConfigurationError, match="horizn"):
        LoopOptions(agent={"horizn": 3})


def test_dreams_longer_than_any_episode_are_refused(tmp_path: Path) -> None:
    agent = {"batch_size": 8, "horizon": 21, "width": 8}
    with pytest.raises(ConfigurationError, match="horizon=21 actions, but the time limit is 20"):
        loop(tmp_path, replace(TINY, agent=agent))
    assert not list(tmp_path.rglob("*.*")), "nothing was collected"


@pytest.mark.parametrize(
    ("learner", "agent", "message"),
    [
        ("actor-critic", {"action_map": "argmax"}, r"action_map='argmax' does not fit Box"),
        ("evolve", {"action_map": "throttle"}, "needs at least two action dimensions"),
    ],
)
def test_what_an_agent_cannot_do_is_refused_before_anything_is_collected(
    learner: str, agent: dict[str, Any], message: str, tmp_path: Path
) -> None:
    by_rounds = {"train_ratio": None, "update_every": None} if learner == "evolve" else {}
    with pytest.raises(ConfigurationError, match=message):
        loop(tmp_path, replace(TINY, **{"learner": learner, "agent": agent, **by_rounds}))
    assert not list(tmp_path.rglob("*.*"))


def test_disagreement_needs_an_ensemble() -> None:
    with pytest.raises(ConfigurationError, match=r"agent\.max_disagreement=0\.5: models of the recipe 'rssm' have no"):
        LoopOptions(learner="evolve", agent={"max_disagreement": 0.5}, train=TrainOptions("rssm"))
    LoopOptions(learner="evolve", agent={"max_disagreement": 0.5}, train=TrainOptions("ensemble"))


def test_a_recipe_that_fits_whole_data_sets(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'ensemble' fits V and M once a round: leave update_every out"):
        loop(tmp_path, replace(TINY, train=TrainOptions("ensemble")))


@pytest.mark.integration
def test_episodes_that_are_played_at_once_do_not_depend_on_who_plays(tmp_path: Path) -> None:
    """And all of a lot are played with the weights that the first one met."""
    together = replace(TINY, episodes_at_once=2, greedy_episodes=0, noisy_episodes=3)
    loop(tmp_path / "here", together)
    loop(tmp_path / "workers", together, workers=2)
    assert contents(tmp_path / "here") == contents(tmp_path / "workers")
    loop(tmp_path / "alone", replace(together, episodes_at_once=1))
    ours, other = (EpisodeStore(tmp_path / name / "episodes" / "01") for name in ("here", "alone"))
    np.testing.assert_allclose(ours[0].actions, other[0].actions, atol=1e-5)
    assert not np.allclose(ours[1].actions, other[1].actions, atol=1e-3), "alone, it has learned from the first"


@pytest.mark.integration
def test_a_first_round_of_one_episode_has_start_states(tmp_path: Path) -> None:
    loop(tmp_path, replace(TINY, rounds=1, first_frames=20))
    starts = WorldModel.load(tmp_path / "bundle").starts
    assert (len(starts.first), len(EpisodeStore(tmp_path / "episodes"))) == (1, 1)


@pytest.mark.integration
def test_an_episode_that_fails_is_played_again_from_another_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the loop would meet it whenever it goes on."""
    step, failing = PendulumEnv.step, [1]

    def fragile(env: PendulumEnv, action: Any) -> Any:
        if failing and len(list((tmp_path / "episodes").rglob("*.h5"))) == 3:
            raise ArithmeticError(failing.pop())
        return step(env, action)

    monkeypatch.setattr(PendulumEnv, "step", fragile)
    with pytest.warns(UserWarning, match=r"episode 1 is played again from another seed: ArithmeticError"):
        loop(tmp_path)
    seeds = [episode.seed for episode in EpisodeStore(tmp_path / "episodes" / "01")]
    first, second, third = seeds
    assert third == first + 2
    assert second == first + 100_000 - 2


@pytest.mark.integration
def test_dreams_may_be_more_than_the_moments_that_were_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    losses = Imagination.losses

    def counted(self: Imagination, state: Any, *rest: Any) -> Any:
        rows.append(len(state[0]))
        return losses(self, state, *rest)

    monkeypatch.setattr(Imagination, "losses", counted)
    loop(tmp_path, replace(TINY, rounds=1, agent={"batch_size": 50, "horizon": 3, "width": 8, "value_bound": 0.5}))
    assert set(rows) == {50}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("learner", "agent"), [("planner:shooting", None), ("actor-critic:shooting", TINY.agent)], ids=["alone", "guided"]
)
def test_a_planner_decides_for_all_episodes_of_a_lot_in_one_batch(
    learner: str, agent: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process; workers play the same episodes one by one, with the same noise."""
    batches: list[int] = []
    predict = MPCAgent.predict

    def counting(self: MPCAgent, observation: Any, *rest: Any) -> Any:
        batches.append(len(observation) if observation.ndim == 2 else 1)
        return predict(self, observation, *rest)

    monkeypatch.setattr(MPCAgent, "predict", counting)
    together = replace(
        TINY,
        learner=f"{learner},candidates=4,horizon=3",
        agent=agent,
        episodes_at_once=3,
        greedy_episodes=1,
        noisy_episodes=2,
        validation_episodes=1,
    )
    loop(tmp_path / "here", together)
    assert batches.count(3) == 20, "a batch for each action of the one lot"
    loop(tmp_path / "workers", together, workers=2)
    here, workers = (EpisodeStore(tmp_path / name / "episodes" / "01") for name in ("here", "workers"))
    for ours, other in zip(here, workers, strict=True):
        np.testing.assert_allclose(ours.actions, other.actions, atol=1e-4)
        assert (ours.seed, "+noise" in ours.policy) == (other.seed, True)
        assert ours.policy == other.policy
    assert not np.allclose(here[0].actions, here[1].actions, atol=0.1)


@pytest.mark.integration
def test_the_critic_may_learn_from_what_was_replayed_too(unbroken: Path, tmp_path: Path) -> None:
    loop(tmp_path, replace(TINY, rounds=1, agent={"batch_size": 8, "horizon": 3, "width": 8, "replay_critic": 0.3}))
    ours, other = (load_file(folder / "rounds/00/agent/agent.safetensors") for folder in (tmp_path, unbroken))
    assert ours.keys() == other.keys()


@pytest.mark.integration
def test_the_mean_actor_plays_and_is_kept(tmp_path: Path) -> None:
    """One that hardly moves stays what it was at the beginning, whatever the actor learns."""
    agent = {"batch_size": 8, "horizon": 3, "width": 8, "actor_average": 1e-9}
    loop(tmp_path, replace(TINY, rounds=1, agent=agent))
    options = ImaginationOptions(width=8, actor_average=1e-9)
    first = new_actor_critic(WorldModel.load(tmp_path / "rounds/00/bundle"), options, seed=3)
    kept = load_agent(tmp_path / "rounds/00/agent").tensors()
    for name, part in first.player.state_dict().items():
        torch.testing.assert_close(kept[name], part)


@pytest.mark.parametrize("option", [{"critic_first": 5}, {"first_share": 0.1}])
def test_what_only_rounds_heed_is_refused_where_the_agent_learns_while_the_model_does(option: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"agent\.{next(iter(option))}=.* has no use"):
        replace(TINY, agent=option)
    replace(TINY, agent=option, update_every=None)


def test_episodes_at_once_are_for_a_loop_that_learns_continually() -> None:
    with pytest.raises(ConfigurationError, match="episodes_at_once=2, update_every=None"):
        replace(TINY, episodes_at_once=2, update_every=None)
