"""What other libraries make of each autoreset mode: the table of docs/integrations.md, on a dream with known answers.

In the matching dream a transition tells by itself whether it is right: the reward is 1 for the coin's side and else 0,
and the memory's part of an observation is zero at the start of an episode and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from dreamenv.errors import StepError
from tests.integrations.match_dream import ID
from tests.integrations.test_libraries import MISSING

pytestmark = [pytest.mark.slow, pytest.mark.library, pytest.mark.usefixtures("match_registry")]

ROWS, STEPS = 8, 60


def verdict(observations: Any, actions: Any, rewards: Any, next_observations: Any) -> str:
    """Whether transitions `[N, ...]` are real steps with their true next observation, as the table words it."""
    observations, next_observations = np.asarray(observations), np.asarray(next_observations)
    right = (observations[:, 0] > 0) == (np.asarray(actions).reshape(-1) == 1)
    if np.abs(np.asarray(rewards).reshape(-1) - right).max() > 0.01:
        return "counts resets as steps"
    return "right" if (_memory(next_observations) > 0).all() else "loses last observations"


def _memory(observations: NDArray[Any]) -> NDArray[Any]:
    return np.abs(observations[:, 1:]).max(1)


def documented(library: str) -> dict[str, str]:
    """Cells of the library's row by mode."""
    document = Path(__file__).resolve().parents[2] / "docs" / "integrations.md"
    row = next(line for line in document.read_text(encoding="utf-8").splitlines() if line.startswith(f"| {library} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    return dict(zip((mode.name for mode in AutoresetMode), cells[1:4], strict=True))


def torchrl(mode: AutoresetMode) -> str:
    from torchrl.envs import GymWrapper

    dreams = gym.make_vec(ID, num_envs=ROWS, autoreset_mode=mode)
    if mode == AutoresetMode.NEXT_STEP:
        with pytest.raises(RuntimeError, match="auto-reset mode must be one of SAME_STEP or DISABLED"):
            GymWrapper(dreams)
        return "refused"
    env = GymWrapper(dreams, categorical_action_encoding=True)
    env.set_seed(0)
    data = env.rollout(STEPS, break_when_any_done=False).reshape(-1)
    return verdict(data["observation"], data["action"], data["next", "reward"], data["next", "observation"])


def rllib(mode: AutoresetMode) -> str:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = PPOConfig().environment(ID, env_config={"autoreset_mode": mode})
    config.env_runners(
        num_env_runners=0,
        num_envs_per_env_runner=ROWS,
        gym_env_vectorize_mode=gym.VectorizeMode.VECTOR_ENTRY_POINT,
    )
    runner = SingleAgentEnvRunner(config=config)
    try:
        episodes = runner.sample(num_timesteps=ROWS * STEPS, random_actions=True)
    except (StepError, RuntimeError):
        return "stops"
    parts = [
        (np.stack(episode.get_observations()), episode.get_actions(), episode.get_rewards()) for episode in episodes
    ]
    return verdict(
        np.concatenate([seen[:-1] for seen, _, _ in parts]),
        np.concatenate([actions for _, actions, _ in parts]),
        np.concatenate([rewards for _, _, rewards in parts]),
        np.concatenate([seen[1:] for seen, _, _ in parts]),
    )


def skrl(mode: AutoresetMode) -> str:
    import torch
    from skrl.envs.wrappers.torch import wrap_env

    env = wrap_env(gym.make_vec(ID, num_envs=ROWS, autoreset_mode=mode), verbose=False)
    observations, _ = env.reset()
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(STEPS):
        actions = torch.randint(0, 2, (ROWS, 1), generator=generator)
        try:
            following, rewards, *_ = env.step(actions)
        except StepError:
            return "stops"
        parts.append((observations, actions, rewards, following))
        observations = following
    return verdict(*(torch.cat(part) for part in zip(*parts, strict=True)))


PROBES = {"TorchRL": ("torchrl", torchrl), "RLlib": ("ray", rllib), "skrl": ("skrl", skrl)}


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("library", PROBES)
def test_every_mode_is_as_documented(library: str, mode: AutoresetMode) -> None:
    module, probe = PROBES[library]
    pytest.importorskip(module, reason=MISSING.format(module))
    assert probe(mode) == documented(library)[mode.name]


def test_torchrl_takes_the_scalar_form_by_its_id() -> None:
    pytest.importorskip("torchrl", reason=MISSING.format("torchrl"))
    from torchrl.envs import GymEnv

    env = GymEnv(f"dreamenv:{ID}", categorical_action_encoding=True)
    data = env.rollout(STEPS, break_when_any_done=False)
    seen = verdict(data["observation"], data["action"], data["next", "reward"], data["next", "observation"])
    assert seen == "right"


def test_skrl_cannot_render_the_vector_form() -> None:
    pytest.importorskip("skrl", reason=MISSING.format("skrl"))
    from skrl.envs.wrappers.torch import wrap_env

    env = wrap_env(gym.make_vec(ID, num_envs=2, autoreset_mode="SameStep", render_mode="rgb_array"), verbose=False)
    env.reset()
    with pytest.raises(AttributeError, match="call"):
        env.render()
