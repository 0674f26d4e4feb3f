"""MBPO as one call: epochs, what a killed run goes on with, and a critic that promises too much."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("stable_baselines3")

from gymnasium import spaces
from gymnasium.wrappers import TransformObservation
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dreamenv.envs.dream_env import DreamEnv
from dreamenv.errors import BundleError, ConfigurationError, NonFiniteError
from dreamenv.sb3 import CriticCallback, Epoch, MBPOOptions, MixedReplayBuffer, learn_mbpo, load_model, read_mbpo
from dreamenv.sb3.branches import BranchSchedule
from dreamenv.sb3.mbpo import _SCORE_SEED, _first_seed
from dreamenv.scoring import evaluate
from dreamenv.training.checkpoint import load_tensors
from dreamenv.training.recipes.ensemble import EnsembleMemoryOptions
from dreamenv.training.recipes.fit_ensemble import EnsembleFitOptions
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel
from tests.sb3.line_env import Line, filled

LINE = RealEnvSpec("Line-v0")
TINY = MBPOOptions(
    steps=60,
    epoch=30,
    learning_starts=10,
    updates=2,
    real_fraction=0.25,
    branches=BranchSchedule(1, 3, 20, 50),
    rollout_batch=20,
    rollout_every=10,
    refit_every=15,
    model=EnsembleMemoryOptions(members=2, elites=2, hidden_size=8, layers=1),
    fit=EnsembleFitOptions(batch_size=16, max_epochs=1),
    agent={"batch_size": 16, "policy_kwargs": {"net_arch": [8, 8]}},
    score_episodes=2,
    critic_every=10,
)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Epoch]]:
    folder = tmp_path_factory.mktemp("mbpo")
    return folder, learn_mbpo(LINE, folder, TINY, seed=3)


def test_each_epoch_is_scored_and_the_agent_is_left(unbroken: tuple[Path, list[Epoch]]) -> None:
    folder, epochs = unbroken
    assert [row.real_steps for row in epochs] == [30, 60]
    assert [row.branch_length for row in epochs] == [1, 3]
    assert all(len(row.returns) == 2 and row.mean == pytest.approx(np.mean(row.returns)) for row in epochs)
    assert all(row.critic is not None and not row.diverged for row in epochs)
    agent: Any = load_model(folder / "agent.zip", "sac")
    assert agent.num_timesteps == 60
    # 2 updates a step, for the steps behind those with random actions
    assert agent._n_updates == pytest.approx(2 * 50, abs=2)
    assert read_mbpo(folder) == epochs
    assert [path.name for path in (folder / "checkpoint").iterdir()] == ["0001"], "older checkpoints are removed"


def test_it_leaves_a_dream_in_which_and_beside_which_the_agent_is_scored(unbroken: tuple[Path, list[Epoch]]) -> None:
    folder, _ = unbroken
    model = WorldModel.load(folder / "bundle")
    assert model.provenance["real_frames"] == model.provenance["real_steps"] == 60
    kept, _ = load_tensors(folder / "checkpoint" / "0001" / "model.safetensors")
    assert all(torch.equal(value, kept[name]) for name, value in model.memory.state_dict().items())
    starts = {tuple(row.tolist()) for row in model.starts.first}
    replay, _ = load_tensors(folder / "checkpoint" / "0001" / "replay.safetensors")
    assert tuple(replay["observations"][0, 0].tolist()) in starts
    assert 1 < len(starts) < 60, "where episodes begin, not every moment"
    # Episodes begin anew with the second epoch too, whose last one of the first has not ended
    assert not replay["dones"][29, 0]
    assert tuple(replay["observations"][30, 0].tolist()) in starts
    assert model.real.frames_per_second == 7, "as Line declares"
    env = DreamEnv(model)
    env.reset(seed=1)
    assert np.isfinite(env.step(env.action_space.sample())[1])
    # The agent saw the real environment's bounds, the model shows numbers without
    score = evaluate(folder / "bundle", folder / "agent.zip", algo="sac", episodes=2, workers=0)
    assert score.real_frames == 60
    assert np.isfinite(score.mean)


def test_a_killed_run_ends_as_an_unbroken_one(unbroken: tuple[Path, list[Epoch]], tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(epoch: Epoch) -> None:
        raise Killed

    with pytest.raises(Killed):
        learn_mbpo(LINE, tmp_path, TINY, seed=3, on_epoch=kill)
    # Killed again while the second epoch writes its checkpoint
    broken = tmp_path / "checkpoint" / "0001"
    broken.mkdir()
    (broken / "replay.safetensors").write_bytes(b"cut")
    again = learn_mbpo(LINE, tmp_path, TINY, seed=3)
    folder, epochs = unbroken
    assert [replace(row, seconds=0.0) for row in again] == [replace(row, seconds=0.0) for row in epochs]
    ours, theirs = (load_model(path / "agent.zip", "sac").policy.state_dict() for path in (tmp_path, folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_is_held_out_of_a_fit_stays_so_over_the_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def refit(memory: Any, transitions: Any, options: Any, *, seed: int) -> dict[str, float]:
        seeds.append(seed)
        return {}

    monkeypatch.setattr("dreamenv.sb3.mbpo.refit_ensemble", refit)
    learn_mbpo(LINE, tmp_path, TINY, seed=3)
    assert len(seeds) == 4
    assert set(seeds) == {3}


def test_episodes_to_learn_from_can_be_cut(tmp_path: Path) -> None:
    """The steps of a run that are learned from come in pieces, and scores are of whole episodes all the same."""
    folder, options = tmp_path / "cut", replace(TINY, episode=4, steps=30)
    epochs = learn_mbpo(LINE, folder, options, seed=3)
    replay, _ = load_tensors(folder / "checkpoint" / "0000" / "replay.safetensors")
    ends = replay["dones"].flatten()[:30].nonzero().flatten().tolist()
    assert np.diff([-1, *ends]).max() == 4
    cut = [step for step in ends if replay["timeouts"].flatten()[step]]
    assert cut, "and the value behind such an end is bootstrapped"
    whole = learn_mbpo(LINE, tmp_path / "whole", replace(TINY, steps=30), seed=3)
    assert (
        WorldModel.load(folder / "bundle").max_episode_steps
        == WorldModel.load(tmp_path / "whole" / "bundle").max_episode_steps
    )
    assert len(epochs[0].returns) == len(whole[0].returns) == 2
    with pytest.raises(ConfigurationError, match="episode must be at least 1 real step"):
        replace(TINY, episode=0)


def test_a_finished_run_changes_nothing_and_refuses_other_settings(unbroken: tuple[Path, list[Epoch]]) -> None:
    folder, epochs = unbroken
    assert learn_mbpo(LINE, folder, TINY, seed=3) == epochs
    with pytest.raises(ConfigurationError, match="holds a run with seed=3, this call has 4"):
        learn_mbpo(LINE, folder, TINY, seed=4)


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "mbpo.json").write_text(json.dumps({"epochs": [{"real_steps": 1}]}))
    with pytest.raises(BundleError, match="no record of a run of MBPO"):
        learn_mbpo(LINE, tmp_path, TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"updates": 0}, "updates must be a whole number from 1 to 1000 a real step, got 0"),
        ({"updates": 1.5}, "updates must be a whole number"),
        ({"real_fraction": 2.0}, r"real_fraction must be in \[0, 1\], got 2\.0"),
        ({"agent": {"gamma": "x"}}, "agent.gamma must be a number, got 'x'"),
        ({"updates": 1001}, "updates must be a whole number from 1 to 1000 a real step, got 1001"),
        ({"epoch": 0}, "must be at least 1"),
        ({"refit_every": 1000}, "rollout_every and refit_every are at most that"),
        ({"learning_starts": 60}, "nothing would ever be learned"),
        ({"agent": {"gamma": 1.01}}, r"gamma must be in \[0, 1\], got 1\.01"),
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replace(TINY, **wrong)


def test_what_it_cannot_learn_from_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="an ensemble takes a Box of one dimension"):
        learn_mbpo(RealEnvSpec("LineSeen-v0"), tmp_path / "a", TINY)
    with pytest.raises(ConfigurationError, match="branches of up to 9 steps; the model's horizon is 8 steps"):
        learn_mbpo(LINE, tmp_path / "b", replace(TINY, branches=BranchSchedule(1, 9, 0, 5)))
    two_at_once = replace(LINE, action_repeat=2)
    with pytest.raises(ConfigurationError, match="branches of up to 5 steps; the model's horizon is 4 steps"):
        learn_mbpo(two_at_once, tmp_path / "d", replace(TINY, branches=BranchSchedule(1, 5, 0, 5)))
    with pytest.raises(ConfigurationError, match="seed must be at least 0, got -1"):
        learn_mbpo(LINE, tmp_path / "e", TINY, seed=-1)
    with pytest.raises(ConfigurationError, match="algo='ppo' learns from its own steps alone"):
        learn_mbpo(LINE, tmp_path / "c", replace(TINY, algo="ppo"))


def test_settings_that_cannot_work_leave_no_record(tmp_path: Path) -> None:
    for wrong, message in (
        ({"real_fraction": -1.0}, "real_fraction must be in"),
        ({"agent": {"foo": 1}}, "sac takes no setting 'foo'"),
        ({"agent": {"learning_rate": -1.0}}, r"sac cannot be made with .*learning_rate=-1\.0: .*learning rate"),
        ({"agent": {"learning_rate": "fast"}}, "sac cannot be made with .*learning_rate='fast'"),
        ({"agent": {"seed": 3}}, "seed: it is set otherwise than among the settings of sac"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            learn_mbpo(LINE, tmp_path, replace(TINY, **wrong))
    assert len(learn_mbpo(LINE, tmp_path, replace(TINY, steps=20, epoch=20))) == 1


def test_a_class_among_the_agents_settings_is_recorded_by_its_name(tmp_path: Path) -> None:
    options = replace(TINY, agent={"policy_kwargs": {"net_arch": [8], "activation_fn": torch.nn.Tanh}})
    for _ in range(2):  # and the same call goes on
        learn_mbpo(LINE, tmp_path, replace(options, steps=20, epoch=20))
    kept = json.loads((tmp_path / "mbpo.json").read_text(encoding="utf-8"))["options"]["agent"]["policy_kwargs"]
    assert kept["activation_fn"] == "torch.nn.modules.activation.Tanh"


def test_training_and_scores_share_no_seed() -> None:
    scores = range(_SCORE_SEED, _SCORE_SEED + 10_000)
    firsts = [_first_seed(seed) for seed in range(5000)]
    assert len(set(firsts)) == 5000
    assert not {first for first in firsts if first + 9_999 in scores or first in scores}


def test_the_frames_of_a_bundle_are_counted_with_action_repeat(tmp_path: Path) -> None:
    learn_mbpo(replace(LINE, action_repeat=2), tmp_path, replace(TINY, steps=30))
    model = WorldModel.load(tmp_path / "bundle")
    assert (model.provenance["real_steps"], model.provenance["real_frames"]) == (30, 60)
    assert (model.real.max_episode_steps, model.max_episode_steps) == (8, 4)


def test_it_acts_in_the_environment_as_the_spec_prepares_it(tmp_path: Path) -> None:
    """Actions within the bounds, each for two frames, and observations of no vector as one."""
    Line.taken = []
    learn_mbpo(replace(LINE, action_bounds=((-0.5, 0.5),), action_repeat=2), tmp_path / "line", replace(TINY, steps=30))
    assert max(map(abs, Line.taken)) == pytest.approx(0.5, abs=0.1)
    assert len(Line.taken) > 2 * 30
    (epoch,) = learn_mbpo(RealEnvSpec("FrozenLake-v1"), tmp_path / "lake", replace(TINY, algo="dqn", steps=30))
    assert epoch.real_steps == 30
    assert not epoch.diverged, "nothing was paid yet"


def test_exploration_falls_over_the_run_not_over_each_epoch(tmp_path: Path) -> None:
    rates: list[float] = []

    def note(epoch: Epoch) -> None:
        agent: Any = load_model(tmp_path / "agent.zip", "dqn")
        rates.append(agent.exploration_rate)

    options = replace(TINY, algo="dqn", agent=TINY.agent | {"exploration_fraction": 1.0, "exploration_final_eps": 0.0})
    learn_mbpo(replace(LINE, kwargs={"discrete": True}), tmp_path, options, on_epoch=note)
    assert rates == pytest.approx([0.5, 0.0], abs=0.03)


def test_a_reward_that_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"reward \[(nan|-inf)\] in the real step behind \d+ others"):
        learn_mbpo(replace(LINE, kwargs={"paid": float("inf")}), tmp_path, TINY)


def test_an_agent_that_diverges_is_named(tmp_path: Path) -> None:
    """By its policy, before torch is to draw from a distribution that is none."""
    options = replace(TINY, agent={**TINY.agent, "learning_rate": 1e12})
    with pytest.raises(NonFiniteError, match=r"the (policy|critic) is not finite after \d+ real steps.*learning rate"):
        learn_mbpo(LINE, tmp_path, options)


def sac(**options: Any) -> Any:
    kept = {"policy_kwargs": {"net_arch": [8, 8]}, "learning_starts": 30, "device": "cpu", "seed": 0}
    return SAC("MlpPolicy", Line(), **(kept | options))


def test_a_critic_beyond_what_rewards_allow_is_told_once() -> None:
    agent, critic = sac(), CriticCallback(every=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent.learn(20, callback=critic)
    assert critic.value is not None
    assert critic.value < critic.limit
    # Rewards of at most 25 (x' within 5), a weight of 1 for the entropy of one action, and γ of 0.99
    assert critic.limit <= 2 * (25 + 2) / 0.01 * 1.01
    with torch.no_grad():
        for name, part in agent.critic.named_parameters():
            if name.endswith("4.bias"):
                part.fill_(1e4)
    with pytest.warns(RuntimeWarning, match="the critic diverges: after 20 real steps it says 1e\\+04"):
        critic.look()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        critic.look()
    assert critic.diverged_at == 20
    with torch.no_grad():
        next(agent.critic.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="the critic is not finite after 20 real steps"):
        critic.look()


def test_a_critic_is_asked_of_what_it_learns_from() -> None:
    envs = VecNormalize(
        DummyVecEnv([lambda: TransformObservation(Line(), lambda seen: 1e4 * seen, Line().observation_space)])
    )
    agent = SAC("MlpPolicy", envs, policy_kwargs={"net_arch": [8]}, learning_starts=30, device="cpu", seed=0)
    critic = CriticCallback(every=20)
    agent.learn(20, callback=critic)
    buffer: Any = agent.replay_buffer
    with torch.no_grad():
        seen = torch.from_numpy(envs.normalize_obs(buffer.observations[:20, 0]))
        said = torch.cat(agent.critic(seen.float(), torch.from_numpy(buffer.actions[:20, 0])), 1)
    assert critic.value == pytest.approx(float(said.abs().mean()), rel=1e-3)
    assert critic.limit < 1.01 * 2 * (envs.clip_reward + 2) / 0.01


def test_the_values_of_qrdqn_are_the_means_of_its_quantiles() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    agent = contrib.QRDQN(
        "MlpPolicy", Line(discrete=True), policy_kwargs={"net_arch": [8]}, learning_starts=30, device="cpu"
    )
    critic = CriticCallback(every=20)
    agent.learn(20, callback=critic)
    buffer: Any = agent.replay_buffer
    with torch.no_grad():
        said = agent.quantile_net(torch.from_numpy(buffer.observations[:20, 0])).mean(1).amax(1)
    assert critic.value == pytest.approx(float(said.abs().mean()), rel=1e-3)


def test_what_cannot_be_looked_at_is_refused() -> None:
    named = TransformObservation(Line(), lambda seen: {"x": seen}, spaces.Dict({"x": Line().observation_space}))
    agent = SAC("MultiInputPolicy", named, buffer_size=50, device="cpu")
    with pytest.raises(ConfigurationError, match="critic of Dict observations"):
        agent.learn(2, callback=CriticCallback())
    with pytest.raises(ConfigurationError, match="gamma must be in"):
        sac(gamma=2.0).learn(2, callback=CriticCallback())
    endless = CriticCallback(every=5)
    sac(gamma=1.0).learn(20, callback=endless)
    assert endless.limit == float("inf")


def test_an_algorithm_without_a_critic_to_look_at_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="PPO has no critic"):
        PPO("MlpPolicy", Line(), n_steps=8, batch_size=8, device="cpu").learn(8, callback=CriticCallback())
    with pytest.raises(ConfigurationError, match="every must be at least 1"):
        CriticCallback(every=0)


def test_a_buffer_is_restored_as_it_was() -> None:
    kept, other = filled(7), filled(1)
    other.load_tensors(kept.tensors())
    assert (other.pos, other.real_size) == (kept.pos, kept.real_size)
    for ours, theirs in zip(
        vars(other.real_transitions()).values(), vars(kept.real_transitions()).values(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    small = MixedReplayBuffer(4, kept.observation_space, kept.action_space, "cpu", 2, seed=0)
    with pytest.raises(ConfigurationError, match="expected up to 2 of"):
        small.load_tensors(kept.tensors())
