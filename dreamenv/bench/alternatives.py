"""What a user could step instead of a `DreamVectorEnv`: the same network in plain PyTorch, in TorchRL's model-based
environment, in N scalar environments, and the real environment on every core."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from multiprocessing import parent_process
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from torch import Tensor, nn

from dreamenv.bench.bound import Work, dreamed_products, product_bound
from dreamenv.bench.cases import ACTION_BATCHES, Case, stepping
from dreamenv.data.preprocess import make_real_env
from dreamenv.envs import DreamEnv
from dreamenv.kinds import Register
from dreamenv.world_model import WorldModel

# Steps of memories in plain PyTorch by kind: modules that are made of the memory, from latent, hidden state, cell and
# action to the next three, the reward and the end
PLAIN_STEPS: Register[Callable[[Any], nn.Module]] = Register(
    "plain_step", {"mdn_rnn": "dreamenv.bench.plain_mdn_rnn:PlainStep"}
)


def comparison_cases(
    model: WorldModel, count: int, few: int, seed: int, closing: list[Callable[[], Any]]
) -> list[Case]:
    """Cases of `count` dreams at once and of `few` scalar environments; `closing` gets what ends them."""
    device = str(model.device)
    cases = []
    if model.memory.config()["kind"] in PLAIN_STEPS and getattr(model.memory, "width", 0) == 0:
        products = dreamed_products(model.memory, model.action_space)
        cases.append(
            Case("plain PyTorch", count, device, _plain(model, count, seed), product_bound(products, count, device))
        )
        torchrl = _torchrl(model, count)
        if torchrl is not None:
            cases.append(Case("TorchRL", count, device, torchrl, product_bound(products, count, device)))
    for kind in (SyncVectorEnv, AsyncVectorEnv):
        envs: Any = kind([partial(_dream, model)] * few)
        closing.append(envs.close)
        cases.append(Case(kind.__name__, few, device, stepping(envs, few, seed)))
    cores = os.cpu_count() or 1
    reals = AsyncVectorEnv([partial(make_real_env, model.real)] * cores)
    closing.append(reals.close)
    cases.append(Case("real, every core", cores, "cpu", stepping(reals, cores, seed)))
    return cases


def _dream(model: WorldModel) -> gym.Env[Any, Any]:
    if parent_process() is not None:
        torch.set_num_threads(1)  # many processes with many threads each would starve each other
    return gym.wrappers.TimeLimit(DreamEnv(model), model.max_episode_steps)


def _plain_step(model: WorldModel) -> Any:
    return PLAIN_STEPS[model.memory.config()["kind"]](model.memory).eval()


def _plain(model: WorldModel, count: int, seed: int) -> Work:
    """Dreams with a time limit, begun anew where they end; arrays in, arrays out."""
    step = _plain_step(model)
    space = gym.vector.utils.batch_space(model.action_space, count)
    space.seed(seed)
    actions = [space.sample() for _ in range(ACTION_BATCHES)]
    first = model.starts.first.float()

    def begin(rows: int) -> tuple[Tensor, Tensor, Tensor]:
        latent = first[torch.randint(len(first), (rows,))]
        return latent, torch.zeros(rows, step.memory.hidden_size), torch.zeros(rows, step.memory.hidden_size)

    state = begin(count)
    age = np.zeros(count, np.int64)
    turn = 0

    @torch.no_grad()
    def work() -> float:
        nonlocal state, turn
        turn += 1
        latent, hidden, cell, reward, terminated = step(*state, torch.from_numpy(actions[turn % len(actions)]))
        age[:] += 1
        ended = terminated.numpy() | (age >= model.max_episode_steps)
        torch.cat([latent, hidden], -1).numpy()
        reward.numpy()
        if ended.any():
            rows = torch.from_numpy(ended.nonzero()[0])
            for part, new in zip((latent, hidden, cell), begin(len(rows)), strict=True):
                part[rows] = new
            age[ended] = 0
        state = latent, hidden, cell
        return count

    return work


def _torchrl(model: WorldModel, count: int) -> Work | None:
    """The same in TorchRL's `ModelBasedEnvBase`, without limits and resets; None where TorchRL is not installed."""
    try:
        from tensordict import TensorDict
        from tensordict.nn import TensorDictModule
        from torchrl.data import Bounded, Categorical, Composite, Unbounded
        from torchrl.envs import ModelBasedEnvBase
        from torchrl.modules import WorldModelWrapper
    except ImportError:
        return None
    step = _plain_step(model)
    memory, batch = step.memory, torch.Size([count])
    sizes = {"latent": memory.latent_size, "hidden": memory.hidden_size, "cell": memory.hidden_size}
    space = model.action_space

    class DreamOfTorchRL(ModelBasedEnvBase):
        def __init__(self) -> None:
            transition = TensorDictModule(
                step,
                in_keys=["latent", "hidden", "cell", "action"],
                out_keys=["latent", "hidden", "cell", "expected_reward", "ended"],
            )
            reward = TensorDictModule(
                lambda reward: reward.unsqueeze(-1), in_keys=["expected_reward"], out_keys=["reward"]
            )
            super().__init__(WorldModelWrapper(transition, reward), device="cpu", batch_size=batch)
            parts = {name: Unbounded((count, size)) for name, size in sizes.items()}
            self.observation_spec = Composite(**parts, shape=batch)
            self.state_spec = Composite(**parts, shape=batch)
            if isinstance(space, gym.spaces.Box):
                low, high = (torch.from_numpy(side).expand(count, -1) for side in (space.low, space.high))
                self.action_spec = Bounded(low, high, shape=(count, *space.shape))
            else:
                self.action_spec = Categorical(int(space.n), shape=batch)  # type: ignore[attr-defined]
            self.reward_spec = Unbounded((count, 1))

        def _reset(self, tensordict: Any, **options: Any) -> Any:
            first = model.starts.first.float()
            start = {name: torch.zeros(count, size) for name, size in sizes.items()}
            start["latent"] = first[torch.randint(len(first), (count,))]
            return TensorDict(start, batch_size=batch)

        def _set_seed(self, seed: int | None) -> None:
            torch.manual_seed(seed or 0)  # noqa: TID251  (plain PyTorch draws from the global generator)

    env = DreamOfTorchRL()
    state = env.reset()

    @torch.no_grad()
    def work() -> float:
        nonlocal state
        state = env.step(env.rand_action(state))["next"]
        return count

    return work
