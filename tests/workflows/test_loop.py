from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from safetensors import safe_open

from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.resolve import load_agent
from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.scoring import evaluate
from dreamenv.training.ledger import read_ledger
from dreamenv.training.pipeline import TrainOptions
from dreamenv.types import RealEnvSpec
from dreamenv.workflows.learners import (
    ActorCriticLearner,
    NoOptions,
    PlannerLearner,
    SB3Options,
    make_learner,
    shares_options,
)
from dreamenv.workflows.loop import Round, best_round, run_loop
from dreamenv.workflows.loop_options import LoopOptions
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE, StairsMemory, small_dream

PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=30)
TINY = LoopOptions(
    rounds=2,
    first_frames=180,
    greedy_episodes=1,
    noisy_episodes=2,
    train=TrainOptions(
        "mdn_rnn",
        {
            "memory": {"hidden_size": 8, "mixtures": 2},
            "fit_memory": {
                "steps": 4,
                "batch_size": 4,
                "sequence_length": 8,
                "burn_in": 2,
                "validate_every": 2,
                "precision": "float32",
            },
            "refit": {"memory_steps": 4},
        },
        replay_starts=32,
    ),
    agent=ImaginationOptions(steps=252, batch_size=4, horizon=2, width=8),
    validation_episodes=2,
)


def loop(folder: Path, options: LoopOptions = TINY, **kwargs: Any) -> list[Round]:
    return run_loop(PENDULUM, folder, options, **({"workers": 0, "seed": 3} | kwargs))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished loop of two rounds; each round ended with a row of its table."""
    folder = tmp_path_factory.mktemp("unbroken")
    rows: list[Round] = []
    assert loop(folder, on_round=rows.append) == rows
    return folder


def table_of(folder: Path) -> list[dict[str, Any]]:
    rows = json.loads((folder / "rounds.json").read_text(encoding="utf-8"))
    return [dict(row) for row in rows]


def contents(folder: Path) -> dict[str, Any]:
    """What a loop leaves behind, but for provenance, whose paths and times may differ."""
    found: dict[str, Any] = {"table": table_of(folder), "ledger": read_ledger(folder)}
    for file in (folder / "bundle" / "model.safetensors", folder / "bundle" / "starts.safetensors"):
        found[file.name] = file.read_bytes()
    with safe_open(folder / "agent" / "agent.safetensors", framework="np") as opened:
        found["agent"] = {name: opened.get_tensor(name).tolist() for name in opened.keys()}  # noqa: SIM118
    return found


@pytest.mark.integration
def test_table_and_ledger(unbroken: Path) -> None:
    first, second = table_of(unbroken)
    ledger = read_ledger(unbroken)
    # 6 episodes of 30 frames, then 3; 2 validate each round
    assert ledger == {"collect 0": 180, "validation 0": 60, "collect 1": 90, "validation 1": 60}
    assert (first["number"], first["real_frames"]) == (0, 240)
    assert (second["number"], second["real_frames"]) == (1, 390)
    for row in (first, second):
        assert row["real_mean"] < 0  # Pendulum only costs
        assert row["collected_return"] < 0
        assert {"loss", "reward_r2"} <= row["held_out"].keys()


@pytest.mark.integration
def test_the_best_round_by_validation_is_kept(unbroken: Path) -> None:
    table = table_of(unbroken)
    best = max(table, key=lambda row: row["real_mean"])["number"]
    model, source = WorldModel.load(unbroken / "bundle"), unbroken / "rounds" / f"{best:02d}"
    assert model.provenance["best_round"] == best
    assert model.provenance["rounds"] == table
    assert model.provenance["real_frames"] == 390  # all that was consumed, whichever round is kept
    for name in ("bundle/model.safetensors", "bundle/starts.safetensors", "agent/agent.safetensors"):
        assert (unbroken / name).read_bytes() == (source / name).read_bytes()
    score = evaluate(unbroken / "bundle", unbroken / "agent", episodes=2, seed=3, role="validation", workers=0)
    assert score.mean == pytest.approx(table[best]["real_mean"], rel=1e-5)
    assert score.real_frames == 390
    assert load_agent(unbroken / "agent").kind == "actor_critic"


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    ("stage", "step"), [("round 0 memory", 2), ("round 0 agent", 250), ("round 1 memory", 2), ("round 1 agent", 250)]
)
def test_a_killed_loop_ends_as_an_unbroken_one(stage: str, step: int, unbroken: Path, tmp_path: Path) -> None:
    def progress(name: str, reached: int, steps: int, scalars: dict[str, float]) -> None:
        if (name, reached) == (stage, step):
            raise Killed

    with pytest.raises(Killed):
        loop(tmp_path, progress=progress)
    loop(tmp_path)
    assert contents(tmp_path) == contents(unbroken)


@pytest.mark.slow
@pytest.mark.integration
def test_a_loop_killed_between_its_rounds(unbroken: Path, tmp_path: Path) -> None:
    def on_round(row: Round) -> None:
        raise Killed

    with pytest.raises(Killed):
        loop(tmp_path, on_round=on_round)
    assert not (tmp_path / "bundle").exists()
    numbers: list[int] = []
    loop(tmp_path, on_round=lambda row: numbers.append(row.number))
    assert numbers == [1]
    assert contents(tmp_path) == contents(unbroken)


@pytest.mark.integration
def test_a_finished_loop_changes_nothing_and_refuses_other_settings(unbroken: Path) -> None:
    before = contents(unbroken)
    assert [row.number for row in loop(unbroken)] == [0, 1]
    assert contents(unbroken) == before
    for options, name in (
        (replace(TINY, greedy_episodes=4), "greedy_episodes"),
        (replace(TINY, agent=replace(TINY.agent, horizon=9)), "agent.horizon"),
        (replace(TINY, train=replace(TINY.train, temperature=1.5)), "train.temperature"),
    ):
        with pytest.raises(ConfigurationError, match=f"holds a loop with {name}="):
            loop(unbroken, options)
    with pytest.raises(ConfigurationError, match="holds a loop with seed=3, this call has seed=4"):
        loop(unbroken, seed=4)
    assert contents(unbroken) == before


@pytest.mark.integration
def test_it_ends_before_it_consumes_too_many_frames(unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path / "run")
    first, second = (row["real_frames"] for row in table_of(unbroken))
    told = loop(tmp_path / "run", replace(TINY, rounds=9, max_frames=2 * second - first - 1, dreams=2))
    assert [row.number for row in told] == [0, 1]
    longer = loop(tmp_path / "run", replace(TINY, rounds=9, max_frames=2 * second - first + 10, dreams=2))
    assert [row.number for row in longer] == [0, 1, 2]


def test_of_equal_rounds_the_last_is_kept(unbroken: Path, tmp_path: Path) -> None:
    shutil.copytree(unbroken, tmp_path / "run")
    rows = table_of(unbroken)
    for row in rows:
        row["real_mean"] = 500.0
    (tmp_path / "run" / "rounds.json").write_text(json.dumps(rows), encoding="utf-8")
    loop(tmp_path / "run")
    assert WorldModel.load(tmp_path / "run" / "bundle").provenance["best_round"] == 1


def test_a_planner_dreams_little_and_is_scored_without_what_it_explores_by() -> None:
    assert PlannerLearner.dreams < ActorCriticLearner.dreams
    searching = make_learner("planner:mcts,gumbel=true,simulations=4", NoOptions()).player(Path())
    assert searching.agent == "planner:mcts,gumbel=true,simulations=4"
    assert searching.greedy == "planner:mcts,gumbel=true,simulations=4,gumbel_noise=0"
    assert make_learner("planner:mcts,gumbel=True", NoOptions()).player(Path()).greedy is not None
    noisy = make_learner("planner:mcts,gumbel_noise=0.5,gumbel=true,simulations=4", NoOptions()).player(Path())
    assert (noisy.agent.count("=0.5"), noisy.greedy) == (1, searching.greedy)
    spaced = make_learner("planner:mcts,gumbel=true, gumbel_noise=0.5", NoOptions()).player(Path())
    assert spaced.greedy == "planner:mcts,gumbel=true,gumbel_noise=0"
    for name in ("mcts,simulations=4", "mcts,gumbel=true,gumbel_noise=0", "cem"):
        assert make_learner(f"planner:{name}", NoOptions()).player(Path()).greedy is None


def test_bad_options() -> None:
    for options in ({"rounds": 0}, {"rounds": 101}, {"first_frames": 0}, {"validation_episodes": 0}):
        with pytest.raises(ConfigurationError, match="must be at least 1"):
            LoopOptions(**options)
    for ratio in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="train_ratio must be a finite number above 0"):
            LoopOptions(train_ratio=ratio)
    for options in ({"greedy_episodes": 0, "noisy_episodes": 0}, {"greedy_episodes": -1}):
        with pytest.raises(ConfigurationError, match="a later round needs episodes"):
            LoopOptions(**options)


@pytest.mark.parametrize(
    ("learner", "real", "message"),
    [
        ("planner:ilqr", "CartPole-v1", "planner 'ilqr' follows gradients of Box actions"),
        ("planner:gradient", "CartPole-v1", "planner 'gradient' follows gradients of Box actions"),
        ("planner:mcts", "Pendulum-v1", "mcts.*Discrete"),
        ("sb3:sac", "CartPole-v1", "sac takes Box actions"),
        ("sb3:dqn", "Pendulum-v1", "dqn takes Discrete actions"),
        ("planner:cem,colour=2", "CartPole-v1", "draws of Discrete actions have no colour"),
        ("actor-critic:mcts", "Pendulum-v1", "mcts.*Discrete"),
    ],
)
def test_actions_that_the_learner_cannot_take_are_refused_before_anything_is_collected(
    learner: str, real: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run_loop(RealEnvSpec(real), tmp_path / "run", LoopOptions(learner=learner), workers=0)
    # The same folder takes the loop that was meant
    assert not list((tmp_path / "run").rglob("*.*"))


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("value_equivalent", {}, "has a policy over Discrete actions"),
        ("tabular", {}, "takes Discrete actions"),
        ("rssm", {"agent": {"horizon": 201}}, "horizon=201 actions, but the time limit is 200"),
    ],
)
def test_what_recipe_and_learner_refuse_is_refused_before_anything_is_collected(
    recipe: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    options = LoopOptions(train=TrainOptions(recipe), **settings)
    with pytest.raises(ConfigurationError, match=message):
        run_loop(RealEnvSpec("Pendulum-v1"), tmp_path / "run", options, workers=0)
    assert not list((tmp_path / "run").rglob("*.*"))


def test_options_stay_with_learners_that_take_them() -> None:
    assert shares_options("actor-critic", "actor-critic:cem,horizon=3")
    assert shares_options("sb3:ppo", "sb3:ppo")
    assert not shares_options("sb3:ppo", "sb3:sac")
    assert not shares_options("actor-critic", "evolve")


def test_settings_of_a_learner_that_cannot_work_are_refused_at_once(tmp_path: Path) -> None:
    for learner, message in (
        ("planner:cem,horizon=5,execute=8", "execute=8: a plan of 'cem' holds 5 actions"),
        (f"planner:mcts,guide={tmp_path}", "agent"),
        ("actor-critic:cem,horizon=5,execute=8", "execute=8: a plan of 'cem' holds 5 actions"),
        ("actor-critic:cem,discount=1", "discount follows from agent.discount; leave it out"),
        (f"actor-critic:cem,guide={tmp_path}", "guide follows from the agent that learns; leave it out"),
        ("actor-critic:cme", "cem"),
    ):
        with pytest.raises((ConfigurationError, BundleError), match=message):
            LoopOptions(learner=learner).make_learner()
    with pytest.raises(ConfigurationError, match=r"agent\.reward_squash=5\.0 makes values of other rewards than plans"):
        LoopOptions(learner="actor-critic:cem", agent={"reward_squash": 5.0})
    guided = LoopOptions(learner="actor-critic:cem,horizon=5", agent={"discount": 0.9}).make_learner()
    assert guided.player(tmp_path).agent == f"planner:cem,horizon=5,discount=0.9,guide={tmp_path}"
    with pytest.raises(ConfigurationError, match="cannot hold the comma in the folder of its guide"):
        guided.player(tmp_path / "a,b")
    with pytest.raises(ConfigurationError, match="cannot hold the comma"):
        run_loop(RealEnvSpec("Pendulum-v1"), tmp_path / "a,b", LoopOptions(learner="actor-critic:cem"), workers=0)
    assert not list((tmp_path / "a,b").rglob("*.*")), "nothing was collected"
    for settings, message in (
        ({"learning_rat": 1}, "ppo takes no setting 'learning_rat'.*learning_rate"),
        ({"seed": 1}, "seed: it is set otherwise than among the settings of ppo"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            LoopOptions(learner="sb3:ppo", agent={"settings": settings}).make_learner()
    for options in ({}, {"update_every": 1, "train_ratio": 1.0, "train": TrainOptions("value_equivalent")}):
        with pytest.raises(ConfigurationError, match=r"agent\.replay_critic=0\.3 learns from what really followed"):
            LoopOptions(agent={"replay_critic": 0.3}, **options)


@pytest.mark.library
def test_a_recurrent_learner_has_a_policy_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("sb3_contrib")
    settings = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "policy_kwargs": {"net_arch": [4], "lstm_hidden_size": 4}}
    learner = make_learner("sb3:recurrent_ppo", SB3Options(steps=8, num_envs=2, settings=settings))
    player = learner.learn(small_dream(StairsMemory(), CHOICE), tmp_path, before=None, seed=0, progress=lambda *_: None)
    assert Path(player.agent).exists()


def test_the_best_round_is_one_that_luck_does_not_explain() -> None:
    table = [Round(number, 0, 0.0, 0.0, mean, 0.0, {}) for number, mean in enumerate([-200, -80, -150, -90, -88, -86])]
    assert best_round(table, 1) == 1
    assert best_round(table, 3) == 5
    assert best_round(table[:4], 3) == 3  # -106.7 behind round 3, -143.3 behind round 2
    assert best_round(table[:2], 3) == 1  # fewer than asked for: the last
    ceiling = [replace(row, real_mean=500.0) for row in table]
    assert best_round(ceiling, 1) == best_round(ceiling, 4) == 5


def test_recipes_that_cannot_do_what_the_loop_wants_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="recipe 'ensemble' fits V and M once a round"):
        LoopOptions(train=TrainOptions("ensemble"), learner="planner:cem", update_every=1, train_ratio=1.0)
    with pytest.raises(ConfigurationError, match="curious_rounds=1: models of the recipe 'rssm' have no members"):
        LoopOptions(train=TrainOptions("rssm"), curious_rounds=1)
    LoopOptions(train=TrainOptions("ensemble"), learner="planner:cem", curious_rounds=1)


@pytest.mark.parametrize("learner", ["planner:cem", "planner:ilqr", "sb3:sac", "evolve", "actor-critic"])
def test_learners_take_the_actions_that_they_can(learner: str) -> None:
    LoopOptions(learner=learner).make_learner().check_actions(spaces.Box(-1.0, 1.0, (2,), np.float32))
