"""The memory backend of docs/memory_backend.md keeps what that page asks of every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.bundle import StartStates
from dreamenv.envs import DreamVectorEnv
from dreamenv.memory.kinds import MEMORIES, register_memory
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.testing import check_memory
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.docs.site import DOCS
from tests.fakes import draw_weights
from tests.test_house import runnable

SIZE = 3
BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.fixture(scope="module")
def backend() -> type:
    """`LinearMemory`, from the first block of the page."""
    text = (DOCS / "memory_backend.md").read_text(encoding="utf-8")
    _, fence, rest = text.partition("```python run\n")
    code = runnable(fence + rest.split("\n```\n")[0] + "\n```\n")
    names: dict[str, Any] = {"__name__": "memory_backend"}
    exec(compile(code, "docs/memory_backend.md", "exec"), names)
    return names["LinearMemory"]


@pytest.fixture
def memory(backend: type) -> Any:
    found = backend(SIZE, BOX)
    draw_weights(found, generator(5))
    return found.eval()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_batch(rows: int = 4, steps: int = 5) -> SequenceBatch:
    noise = generator(1)
    latents = torch.randn(rows, steps + 1, SIZE, generator=noise)
    return SequenceBatch(
        latents=latents,
        targets=latents[:, 1:],
        actions=torch.rand(rows, steps, 2, generator=noise) * 2 - 1,
        rewards=torch.randn(rows, steps, generator=noise),
        terminated=(torch.rand(rows, steps, generator=noise) < 0.3).float(),
        mask=(torch.rand(rows, steps, generator=noise) < 0.8).float(),
        latent_mask=(torch.rand(rows, steps, generator=noise) < 0.8).float(),
    )


def test_it_keeps_the_contract(memory: Any) -> None:
    check_memory(memory, BOX)


def test_loss_is_the_likelihood_of_its_own_predictions(memory: Any) -> None:
    batch = random_batch()
    nll: list[Tensor] = []
    reward: list[Tensor] = []
    for row in range(4):
        state = memory.initial(batch.latents[row, :1], noise=generator())
        for step in range(5):
            action = batch.actions[row, step : step + 1]
            mode, _ = memory.imagine(state, action, noise=generator(), temperature=1e-12)
            normal = torch.distributions.Normal(mode.latent, memory.log_std.exp())
            nll.append(-normal.log_prob(batch.targets[row, step]).mean())
            state, said = memory.observe(state, action, batch.latents[row, step + 1 : step + 2], noise=generator())
            reward.append(0.5 * (said.reward[0] - batch.rewards[row, step]) ** 2)
    found = memory.loss(batch)
    for name, values, mask in (("latent_nll", nll, batch.latent_mask), ("reward", reward, batch.mask)):
        expected = (torch.stack(values) * mask.flatten()).sum() / mask.sum()
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-6)
    parts = [float(found[name]) for name in ("latent_nll", "reward", "termination")]
    assert float(found["loss"].detach()) == pytest.approx(sum(parts), rel=1e-5)


def test_noise_has_the_spread_that_temperature_says(memory: Any) -> None:
    rows = 4000
    state = memory.initial(torch.zeros(rows, SIZE), noise=generator())
    action = torch.zeros(rows, 2)
    for temperature in (0.25, 1.0):
        dreamed, _ = memory.imagine(state, action, noise=generator(7), temperature=temperature)
        expected = temperature**0.5 * memory.log_std.exp()
        torch.testing.assert_close(dreamed.latent.std(0), expected, rtol=0.05, atol=0.0)


def test_same_generator_same_dream(memory: Any) -> None:
    state = memory.initial(torch.randn(6, SIZE, generator=generator(2)), noise=generator())
    action = torch.zeros(6, 2)
    first, said = memory.imagine(state, action, noise=generator(3))
    again, said_again = memory.imagine(state, action, noise=generator(3))
    assert torch.equal(first.latent, again.latent)
    assert torch.equal(said.terminated, said_again.terminated)


def test_neighbours_do_not_matter(memory: Any) -> None:
    starts = StartStates(torch.randn(5, SIZE, generator=generator(2)))
    model = WorldModel(IdentityVision(SIZE), memory, RealEnvSpec("X-v0"), BOX, starts, max_episode_steps=9)
    few, many = (DreamVectorEnv(model, rows) for rows in (2, 6))
    first, whole = few.reset(seed=1)[0], many.reset(seed=1)[0]
    for _ in range(3):
        np.testing.assert_allclose(first, whole[:2], rtol=1e-5)
        first = few.step(np.zeros((2, 2), np.float32))[0]
        whole = many.step(np.zeros((6, 2), np.float32))[0]


def test_gradients_reach_the_action_through_state_and_reward(memory: Any) -> None:
    action = torch.zeros(1, 2, requires_grad=True)
    state = memory.initial(torch.zeros(1, SIZE), noise=generator())
    state, _ = memory.imagine(state, action, noise=generator())
    _, said = memory.imagine(state, torch.zeros(1, 2), noise=generator())
    said.reward.sum().backward()
    assert action.grad is not None
    assert bool((action.grad != 0).all())


def test_saved_and_loaded_it_dreams_the_same(
    backend: type, memory: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MEMORIES, "_added", {})
    register_memory("linear", backend)
    with torch.no_grad():
        for weights in memory.parameters():
            weights.copy_(weights.half().float())  # bundles keep half precision
    starts = StartStates(torch.zeros(2, SIZE))
    model = WorldModel(IdentityVision(SIZE), memory, RealEnvSpec("X-v0"), BOX, starts, max_episode_steps=9)
    model.save(tmp_path)
    loaded: Any = WorldModel.load(tmp_path).memory
    state = memory.initial(torch.ones(2, SIZE), noise=generator())
    dreamed, said = memory.imagine(state, torch.ones(2, 2), noise=generator(4))
    same, said_too = loaded.imagine(state, torch.ones(2, 2), noise=generator(4))
    assert torch.equal(dreamed.latent, same.latent)
    assert torch.equal(said.reward, said_too.reward)
