"""Where the members of an ensemble disagree: in the infos, as a bonus, and as the end of what may be trusted."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.bundle import StartStates
from dreamenv.envs import (
    DisagreementBonus,
    DreamEnv,
    DreamVectorEnv,
    LatentEnv,
    VectorDisagreementBonus,
    latent_vector_env,
)
from dreamenv.errors import ConfigurationError
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.planners import CEM
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.fakes import trained_like_world_model

ACTIONS = spaces.Box(-2.0, 2.0, (1,), np.float32)


def fanning(propagation: str = "step") -> WorldModel:
    """Three members who agree on what the action 0 brings; of action a they say 0, a/2 and a in the first dimension,
    a/2 being the action in units of its bounds."""
    memory = ProbabilisticEnsemble(3, ACTIONS, 3, 3, hidden_size=2, layers=1, propagation=propagation).eval()
    first, last = memory.networks.linear
    with torch.no_grad():
        for part in memory.parameters():
            part.zero_()
        first.weight[:, 3, 0] = 1.0  # reads the action
        first.bias[:, 0, 0] = 30.0  # where SiLU is the identity
        for member, slope in enumerate((0.0, 1.0, 2.0)):
            last.weight[member, 0, 0] = slope
            last.bias[member, 0, 0] = -30.0 * slope
        memory.networks.smallest_log_variance.fill_(-40.0)
        last.bias[:, 0, 4:] = -60.0
        memory.termination_head.network[2].bias.fill_(-50.0)
    starts = StartStates(torch.zeros(3, 3))
    return WorldModel(
        IdentityVision(3), memory, RealEnvSpec("Pendulum-v1"), ACTIONS, starts, max_episode_steps=8
    )  # fmt: skip


def apart(action: float) -> float:
    """The disagreement by its definition: changes 0, a and 2a of action a in [-1, 1], root mean square over three."""
    return float(np.sqrt(np.var([0.0, action / 2, action]) / 3))


@pytest.mark.parametrize("propagation", ["step", "episode"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_dreams_tell_where_members_disagree(propagation: str, temperature: float) -> None:
    model = fanning(propagation)
    env = DreamEnv(model, temperature=temperature)
    env.reset(seed=1)
    chosen = (0.0, 1.0, -2.0)
    told = [env.step(np.array([action], np.float32))[4]["disagreement"] for action in chosen]
    assert told == pytest.approx([apart(action) for action in chosen], abs=1e-5)
    envs = DreamVectorEnv(model, 3, temperature=temperature)
    envs.reset(seed=1)
    infos = envs.step(np.array(chosen, np.float32).reshape(3, 1))[4]
    assert infos["disagreement"] == pytest.approx([apart(action) for action in chosen], abs=1e-5)


def test_the_real_twin_tells_it_too() -> None:
    env = LatentEnv(fanning())
    env.reset(seed=0)
    assert env.step(np.array([2.0], np.float32))[4]["disagreement"] == pytest.approx(apart(2.0), abs=1e-5)
    env.close()


def test_a_step_of_the_environment_is_that_of_imagine() -> None:
    model = fanning("episode")
    stepper = model.memory.stepper(4)
    state = model.start(torch.tensor([0, 1, 2, 0]), noise=torch.Generator().manual_seed(1))
    action = torch.linspace(-2, 2, 4).unsqueeze(1)
    noises = [torch.Generator().manual_seed(2) for _ in range(2)]
    after, said = model.memory.imagine(state, action, noise=noises[0])
    dreams, outcome = stepper.advance(state, action.numpy(), noise=as_dream(noises[1]), temperature=1.0)
    torch.testing.assert_close(dreams.latent, after.latent)
    assert said.extras == {}, "planners, which take imagine, do not ask all members"
    assert list(outcome.extras) == ["disagreement"]


def as_dream(generator: torch.Generator) -> Any:
    from dreamenv.noise.base import GeneratorNoise

    return GeneratorNoise(generator)


def test_a_dream_ends_where_the_members_disagree_too_much() -> None:
    model = fanning()
    env = DreamEnv(model, max_disagreement=apart(1.5))
    env.reset(seed=0)
    assert [env.step(np.array([action], np.float32))[2:4] for action in (0.0, 1.0, 1.9)] == [
        (False, False), (False, False), (False, True),
    ]  # fmt: skip
    envs = DreamVectorEnv(model, 2, max_disagreement=apart(1.5), autoreset_mode="SameStep")
    for each in (envs, envs.clone()):
        each.reset(seed=0)
        _, _, terminated, truncated, infos = each.step(np.array([[0.5], [2.0]], np.float32))
        assert truncated.tolist() == [False, True]
        assert not terminated.any()
        assert infos["final_info"]["disagreement"][1] == pytest.approx(apart(2.0), abs=1e-5)
    assert env.clone().rollout.max_disagreement == env.rollout.max_disagreement


@pytest.mark.parametrize("most", [0.0, -1.0, float("nan"), float("inf"), "much", True])
def test_a_threshold_out_of_range_is_refused(most: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_disagreement must be a finite number above 0"):
        DreamEnv(fanning(), max_disagreement=most)


def test_a_model_that_cannot_disagree_is_refused() -> None:
    other = trained_like_world_model(image=False, action_space=ACTIONS, latent_size=3)
    with pytest.raises(ConfigurationError, match="MDNRNN has no members"):
        DreamVectorEnv(other, 2, max_disagreement=0.5)
    with pytest.raises(ConfigurationError, match="MDNRNN has no members"):
        other.with_bonus(1.0)
    with pytest.raises(ConfigurationError, match="MDNRNN has no members"):
        DisagreementBonus(DreamEnv(other))
    with pytest.raises(ConfigurationError, match="PendulumEnv has no members"):
        DisagreementBonus(gym.make("Pendulum-v1"))
    for bonus in (float("nan"), "much"):
        with pytest.raises(ConfigurationError, match="must be finite"):
            VectorDisagreementBonus(DreamVectorEnv(fanning(), 2), bonus=bonus)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="must be finite"):
        fanning().with_bonus(float("inf"))


def test_the_wrapper_pays_for_disagreement() -> None:
    env = DisagreementBonus(DreamEnv(fanning()), 10.0, reward=0.5)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([2.0], np.float32))
    assert reward == pytest.approx(10 * apart(2.0) + 0.5 * info["task_reward"], abs=1e-4)
    twins = VectorDisagreementBonus(latent_vector_env(fanning(), 2), 10.0, reward=0.0)
    twins.reset(seed=0)
    _, rewards, _, _, infos = twins.step(np.array([[2.0], [0.0]], np.float32))
    assert rewards == pytest.approx([10 * apart(2.0), 0.0], abs=1e-4)
    assert (infos["task_reward"] < 0).all()
    twins.close()


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_the_wrapper_pays_the_last_step_of_an_episode(mode: str) -> None:
    envs = VectorDisagreementBonus(
        DreamVectorEnv(fanning(), 2, max_episode_steps=2, autoreset_mode=mode), 1.0, reward=0.0
    )
    envs.reset(seed=0)
    steps = [envs.step(np.full((2, 1), 2.0, np.float32))[1] for _ in range(3)]
    third = 0.0 if mode == "NextStep" else apart(2.0)
    np.testing.assert_allclose(np.array(steps)[:, 0], [apart(2.0), apart(2.0), third], atol=1e-5)


def test_a_curious_model_pays_for_disagreement_wherever_it_is_dreamed(tmp_path: Any) -> None:
    curious = fanning().with_bonus(1.0, reward=0.0)
    curious.save(tmp_path / "bundle")
    again = WorldModel.load(tmp_path / "bundle")
    env = DreamEnv(again)
    env.reset(seed=0)
    assert env.step(np.array([1.0], np.float32))[1] == pytest.approx(apart(1.0), abs=1e-5)
    plan = CEM(horizon=2, candidates=40, iterations=4, elites=5).plan(
        again,
        again.start(torch.tensor([0]), noise=torch.Generator()),
        noise=torch.Generator().manual_seed(0),
        warm=torch.full((1, 2, 1), 0.3),  # of two ways that are alike, one
    )
    assert plan.actions.abs().min() > 1.8, "the largest actions are those on which the members disagree"
    assert fanning().memory.config()["bonus"] == 0.0
