from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from dreamenv.agents import ValidationScore
from dreamenv.envs import LatentEnv
from dreamenv.errors import ConfigurationError, SpaceMismatchError
from dreamenv.sb3 import Comparison, DreamRealCallback, DreamVecEnv, RealFramesCallback, load_model
from dreamenv.scoring import Validator, evaluate
from dreamenv.scoring.dream_score import dream_returns
from tests.agents.small_dreams import MOVE, TargetMemory, small_dream
from tests.scoring.test_score import pendulum_model

MODEL = small_dream(TargetMemory(), MOVE)


def ppo(env: Any = None) -> PPO:
    env = DreamVecEnv(MODEL, 4) if env is None else env
    return PPO("MlpPolicy", env, n_steps=16, batch_size=32, policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")


def weights(model: Any) -> list[np.ndarray]:
    return [part.detach().numpy().copy() for part in model.policy.parameters()]


class Judge:
    """Gives the scores it was made with, one after another, 10 real frames each; keeps what it was shown."""

    def __init__(self, means: Iterable[float]) -> None:
        self.means = iter(means)
        self.shown: list[list[np.ndarray]] = []

    def __call__(self, agent: Any) -> ValidationScore:
        self.shown.append(weights(agent))
        mean = next(self.means)
        return ValidationScore(mean, (mean - 1, mean + 1), 10)


def test_it_scores_every_so_often_and_at_the_end() -> None:
    judge, seen = Judge(range(9)), list[Comparison]()
    callback = DreamRealCallback(DreamVecEnv(MODEL, 5), judge, every=100, seed=3, progress=seen.append)
    model = ppo()
    model.learn(320, callback=callback)
    # Four dreams and rollouts of 16 steps: a rollout begins every 64 actions
    assert [found.steps for found in callback.history] == [128, 256, 320]
    assert seen == callback.history
    assert callback.real_frames == 30
    last = dream_returns(MODEL, model, episodes=5, seed=3)
    np.testing.assert_allclose(callback.history[-1].dream_returns, last, rtol=1e-5)
    assert callback.history[-1].dream_mean == pytest.approx(last.mean(), rel=1e-5)
    model.learn(64, callback=callback)
    assert [found.steps for found in callback.history[3:]] == [64]


def test_training_is_the_same_without_it() -> None:
    callback = DreamRealCallback(DreamVecEnv(MODEL, 2), Judge(range(9)), every=20)
    watched = ppo().learn(128, callback=callback)
    assert len(callback.history) == 2
    alone = ppo().learn(128)
    for mine, other in zip(weights(watched), weights(alone), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_the_best_by_reality_is_kept_with_all_frames(tmp_path: Path) -> None:
    judge = Judge([1.0, 5.0, 5.0, 2.0])
    model: Any = ppo()
    model.provenance = {"real_frames": 1000, "note": "pretrained"}
    callback = DreamRealCallback(DreamVecEnv(MODEL, 2), judge, every=64, best=tmp_path / "best")
    model.learn(256, callback=callback)
    assert callback.best is callback.history[1]
    kept: Any = load_model(tmp_path / "best.zip", "ppo")
    for mine, shown in zip(weights(kept), judge.shown[1], strict=True):
        np.testing.assert_array_equal(mine, shown)
    assert any((mine != shown).any() for mine, shown in zip(weights(kept), judge.shown[3], strict=True))
    assert kept.provenance == model.provenance == {"real_frames": 1040, "note": "pretrained"}


def test_both_returns_are_logged_for_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = SAC("MlpPolicy", DreamVecEnv(MODEL, 4), buffer_size=200, policy_kwargs={"net_arch": [4]}, device="cpu")
    model.set_logger(configure(str(tmp_path), ["tensorboard"]))
    callback = DreamRealCallback(DreamVecEnv(MODEL, 2), Judge([7.0, 9.0]), every=40)
    model.learn(80, callback=callback)
    model.logger.close()
    events = EventAccumulator(str(tmp_path)).Reload()

    def curve(tag: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in events.Scalars(tag)]

    assert curve("return/real") == [(40, 7.0), (80, 9.0)]
    assert curve("return/real_std") == [(40, 1.0), (80, 1.0)]
    assert curve("real_frames") == [(40, 10.0), (80, 20.0)]
    assert [step for step, _ in curve("return/dream")] == [40, 80]
    assert curve("return/dream")[0][1] == pytest.approx(callback.history[0].dream_mean, rel=1e-5)
    assert curve("return/dream_std")[0][1] == pytest.approx(np.std(callback.history[0].dream_returns), rel=1e-4)


def test_the_validator_is_a_judge_of_real_episodes(tmp_path: Path) -> None:
    world = pendulum_model()
    world.provenance["real_frames"] = 500
    agent = ppo(DreamVecEnv(world, 4))
    callback = DreamRealCallback(
        DreamVecEnv(world, 2), Validator(world, episodes=2, workers=0), every=64, best=tmp_path / "best.zip"
    )
    agent.learn(64, callback=callback)
    expected = evaluate(world, agent, episodes=2, role="validation", workers=0)
    assert callback.history[0].real.returns == expected.returns
    assert callback.real_frames == 60
    assert evaluate(world, tmp_path / "best.zip", algo="ppo", episodes=1, workers=0).real_frames == 560


def test_real_frames_of_training_are_counted(tmp_path: Path) -> None:
    world = pendulum_model(action_repeat=4)
    real = DummyVecEnv([lambda: TimeLimit(LatentEnv(world), 8)] * 2)
    model: Any = ppo(real)
    model.learn(64, callback=RealFramesCallback())
    # Two environments, 32 actions each: four episodes of 30 frames, eight actions of which the last is cut short
    assert model.provenance == {"real_frames": 2 * 4 * 30}
    model.set_env(DreamVecEnv(world, 2))
    model.learn(64, callback=RealFramesCallback())
    assert model.provenance == {"real_frames": 240}
    model.save(tmp_path / "model")
    assert load_model(tmp_path / "model", "ppo").provenance == {"real_frames": 240}
    dreamed: Any = ppo()
    dreamed.learn(64, callback=RealFramesCallback())
    assert dreamed.provenance == {"real_frames": 0}


def test_real_frames_of_a_rollout_that_is_cut_are_counted() -> None:
    class Cut(BaseCallback):
        def _on_step(self) -> bool:
            return self.num_timesteps < 10

    model: Any = ppo(DummyVecEnv([lambda: LatentEnv(pendulum_model(action_repeat=4))] * 2))
    model.learn(64, callback=[RealFramesCallback(), Cut()])
    assert model.provenance == {"real_frames": 10 * 4}


def test_bad_input() -> None:
    with pytest.raises(ConfigurationError, match="every must be at least 1"):
        DreamRealCallback(DreamVecEnv(MODEL, 2), Judge([]), every=0)
    other = DreamVecEnv(small_dream(TargetMemory(), MOVE), 2)
    wrong = DreamVecEnv(pendulum_model(), 2)
    with pytest.raises(
        SpaceMismatchError, match="observation spaces differ: the agent has .* the dream to be scored in"
    ):
        ppo().learn(1, callback=DreamRealCallback(wrong, Judge([]), every=1))
    with pytest.raises(ConfigurationError, match="norm_obs=False"):
        ppo(VecNormalize(DreamVecEnv(MODEL, 4))).learn(1, callback=DreamRealCallback(other, Judge([]), every=1))
    scaled = ppo(VecNormalize(DreamVecEnv(MODEL, 4), norm_obs=False))
    scaled.learn(1, callback=DreamRealCallback(other, Judge([0.0]), every=64))
