"""The probabilistic ensemble: what it learns of a system that is known, and how it dreams."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dreamenv.bundle import StartStates
from dreamenv.envs import DreamVectorEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.ensemble.members import Gaussian
from dreamenv.memory.ensemble.model import EnsembleState, ProbabilisticEnsemble
from dreamenv.memory.sequences import SequenceBatch
from dreamenv.memory.states import select
from dreamenv.training.recipes.fit_ensemble import EnsembleFitOptions, fit_ensemble
from dreamenv.training.transitions import Transitions
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel
from tests.fakes import BOX, draw_weights
from tests.memory.small_memory import SPACES, actions, batch, seeded

DRIFT = np.array([[0.9, 0.2], [0.0, 0.8]])
PUSH = np.array([[0.5, 0.0], [0.0, 1.0]])
NOISE = np.array([0.05, 0.2])


def small(space: str = "box", *, latent_size: int = 3, **options: Any) -> ProbabilisticEnsemble:
    memory = ProbabilisticEnsemble(
        latent_size, SPACES[space], **({"members": 4, "elites": 3, "hidden_size": 8, "layers": 2} | options)
    )
    draw_weights(memory, seeded(1))
    with torch.no_grad():
        memory.networks.smallest_log_variance.fill_(-3.0)
        memory.networks.largest_log_variance.fill_(0.5)
    memory.latent_mean.copy_(torch.linspace(-1, 2, latent_size))
    memory.latent_std.copy_(torch.linspace(0.5, 3, latent_size))
    memory.change_std.copy_(torch.linspace(0.2, 1, latent_size + 1))
    memory.elite_members.copy_(torch.tensor([3, 0, 2][: memory.elites]))
    return memory.eval()


def linear_system(count: int, seed: int) -> Transitions:
    """z' = DRIFT z + PUSH a + noise; the reward is z_0 - a_1; the task ends where z'_0 > 1.5."""
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((count, 2)).astype(np.float32)
    chosen = rng.uniform(BOX.low, BOX.high, (count, 2)).astype(np.float32)
    following = (latents @ DRIFT.T + chosen @ PUSH.T + NOISE * rng.standard_normal((count, 2))).astype(np.float32)
    return Transitions(latents, chosen, following, latents[:, 0] - chosen[:, 1], following[:, 0] > 1.5)


@pytest.fixture(scope="module")
def fitted() -> ProbabilisticEnsemble:
    memory = ProbabilisticEnsemble(2, BOX, 4, 3, hidden_size=32, layers=2)
    draw_weights(memory.networks.linear, seeded(2))
    fit_ensemble(memory, linear_system(1500, 0), EnsembleFitOptions(max_epochs=80), seed=1)
    return memory


def test_it_recovers_a_linear_gaussian_system(fitted: ProbabilisticEnsemble) -> None:
    data = linear_system(400, 1)
    latents, chosen = torch.from_numpy(data.latents), torch.from_numpy(data.actions)
    mean, log_variance = fitted.gaussian(latents, chosen)
    change = (mean * fitted.change_std + fitted.change_mean).mean(0).detach().numpy()
    known = data.latents @ DRIFT.T + data.actions @ PUSH.T
    assert np.abs(data.latents + change[:, :2] - known).mean() < 0.06
    assert np.abs(change[:, 2] - data.rewards).mean() < 0.06
    spread = ((0.5 * log_variance).exp() * fitted.change_std).mean((0, 1)).detach().numpy()
    np.testing.assert_allclose(spread[:2], NOISE, rtol=0.35)


def test_dreams_spread_as_reality_does_and_end_where_it_ends(fitted: ProbabilisticEnsemble) -> None:
    rows = 4000
    latents, chosen = torch.tensor([[0.5, -0.5]]).expand(rows, 2), torch.tensor([[0.5, 1.0]]).expand(rows, 2)
    with torch.no_grad():
        state = fitted.initial(latents, noise=seeded())
        followed, prediction = fitted.imagine(state, chosen, noise=seeded(3))
    np.testing.assert_allclose(followed.latent.mean(0), [0.45 - 0.1 + 0.25, -0.4 + 1.0], atol=0.1)
    np.testing.assert_allclose(followed.latent.std(0), NOISE, rtol=0.5)
    data = linear_system(2000, 2)
    parts = [torch.from_numpy(part) for part in (data.latents, data.actions, data.next_latents)]
    with torch.no_grad():
        _, said = fitted.observe(EnsembleState(parts[0], torch.zeros(2000).long()), *parts[1:], noise=seeded())
    right = (said.termination_probability > 0.5).numpy() == data.terminated
    assert right.mean() > 0.97
    assert said.termination_probability.mean() == pytest.approx(data.terminated.mean(), abs=0.02)
    assert prediction.terminated.float().mean() < 0.1


def test_the_members_disagree_off_the_data(fitted: ProbabilisticEnsemble) -> None:
    data = linear_system(300, 3)
    chosen = torch.from_numpy(data.actions)
    figures = []
    for distance in (0.0, 4.0, 8.0):
        state = fitted.initial(torch.from_numpy(data.latents) + distance, noise=seeded())
        figures.append(float(fitted.disagreement(state, chosen).mean().detach()))
    assert figures[0] < 0.12
    assert figures[0] * 2 < figures[1] < figures[2]


def test_dreamed_rewards_stay_near_the_real_ones(fitted: ProbabilisticEnsemble) -> None:
    """They are `z_0 - a_1`, which the networks have learned well enough to go on with where nothing was seen."""
    rewards = linear_system(1500, 0).rewards
    width = float(rewards.max() - rewards.min())
    low, high = fitted.reward_range.tolist()
    assert -1.1 * width < low - float(rewards.min()) < -0.9 * width  # held-out rewards may be the most extreme ones
    assert 0.9 * width < high - float(rewards.max()) < 1.1 * width
    far = torch.tensor([[-1e6, 0.0], [0.0, 0.0], [1e6, 0.0]])
    with torch.no_grad():
        _, said = fitted.imagine(fitted.initial(far, noise=seeded()), torch.zeros(3, 2), noise=seeded())
        _, twice = fitted.with_bonus(0.0, reward=2.0).imagine(
            fitted.initial(far, noise=seeded()), torch.zeros(3, 2), noise=seeded()
        )
    assert said.reward.tolist() == [low, pytest.approx(0.0, abs=0.1), high]
    assert twice.reward.tolist() == [2 * low, pytest.approx(0.0, abs=0.2), 2 * high]


class Doubling(nn.Module):
    """Members that say that the distance from the mean doubles, and pay nothing."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, inputs: Tensor) -> Gaussian:
        change = inputs[..., : len(self.scale)] * self.scale
        mean = torch.cat([change, torch.zeros_like(change[..., :1])], -1)
        return Gaussian(mean, torch.full_like(mean, -10.0))


@torch.no_grad()
def test_a_dream_that_grows_stays_finite() -> None:
    memory = small()
    seen = torch.tensor([[-1.0, 5.0, 0.0], [1.0, 5.0, 4.0]])  # the second number never changes: its scale is 1
    memory.set_scale(seen, seen, torch.zeros(2))
    memory.networks = Doubling(memory.latent_std)  # type: ignore[assignment]
    state, noise = memory.initial(torch.tensor([[2.0, 5.5, -1.0], [0.5, 5.0, 2.0]]), noise=seeded()), seeded(1)
    near, _ = memory.imagine(state, actions("box", 2), noise=noise, temperature=0.0)
    assert near.latent.tolist() == [[4.0, 6.0, -4.0], [1.0, 5.0, 2.0]]
    for _ in range(300):
        state, said = memory.imagine(state, actions("box", 2), noise=noise, temperature=0.0)
    assert state.latent.tolist() == [[1000.0, 1005.0, -1998.0], [1000.0, 5.0, 2.0]]
    assert said.reward.tolist() == [0.0, 0.0]


@torch.no_grad()
def test_what_always_pays_the_same_pays_it_in_every_dream() -> None:
    memory = small()
    memory.set_scale(torch.randn(20, 3), torch.randn(20, 3), torch.ones(20))
    state = memory.initial(1e30 * torch.randn(50, 3, generator=seeded(2)), noise=seeded())
    _, said = memory.imagine(state, actions("box", 50), noise=seeded(1))
    assert said.reward.tolist() == [1.0] * 50


@pytest.mark.parametrize("space", ["box", "discrete"])
@pytest.mark.parametrize("options", [{}, {"propagation": "episode", "termination": "cut"}])
@torch.no_grad()
def test_a_batch_is_its_rows(space: str, options: dict[str, Any]) -> None:
    """The rows are dealt out to the members and gathered again: each is what its member alone says of it."""
    memory, rows = small(space, **options), 9
    state = EnsembleState(torch.randn(rows, 3, generator=seeded(4)), torch.tensor([0, 3, 3, 2, 0, 0, 2, 3, 0]))
    chosen = actions(space, rows)
    mean, log_variance = memory._by_member(state.latent, memory.action_encoder(chosen), state.member)
    everyone = memory.gaussian(state.latent, chosen)
    for row, member in enumerate(state.member.tolist()):
        torch.testing.assert_close(mean[row], everyone.mean[member, row])
        torch.testing.assert_close(log_variance[row], everyone.log_variance[member, row])
        one = select(state, torch.tensor([row]))
        alone = memory._by_member(one.latent, memory.action_encoder(chosen[row : row + 1]), one.member)
        torch.testing.assert_close(alone.mean[0], mean[row])


@torch.no_grad()
def test_members_are_elites_drawn_each_step_or_once() -> None:
    memory = small(propagation="step")
    state = memory.initial(torch.zeros(300, 3), noise=seeded())
    assert set(state.member.tolist()) == {3, 0, 2}
    followed, _ = memory.imagine(state, actions("box", 300), noise=seeded(1))
    assert set(followed.member.tolist()) == {3, 0, 2}
    assert 60 < int((followed.member != state.member).sum()) < 240
    memory.propagation = "episode"
    followed, _ = memory.imagine(state, actions("box", 300), noise=seeded(1))
    assert torch.equal(followed.member, state.member)


@torch.no_grad()
def test_temperature_scales_the_variance() -> None:
    memory = small(propagation="episode")
    state = memory.initial(torch.zeros(50, 3), noise=seeded())
    cold, plain, hot = (
        memory.imagine(state, actions("box", 50), noise=seeded(1), temperature=t)[0].latent for t in (1e-12, 1, 4)
    )
    torch.testing.assert_close(hot - cold, 2 * (plain - cold), rtol=1e-3, atol=1e-4)
    assert (plain - cold).abs().mean() > 0.01


def test_dreams_carry_gradients_through_state_and_reward() -> None:
    memory = small(propagation="episode")

    def total(first: Tensor, chosen: Tensor) -> Tensor:
        state = EnsembleState(first, torch.tensor([3, 0]).to(first.device))
        generator, rewards = seeded(2), []
        for step in range(3):
            state, prediction = memory.imagine(state, chosen[:, step], noise=generator)
            rewards.append(prediction.reward + prediction.termination_probability)
        return torch.stack(rewards).sum() + state.latent.sum()

    first = torch.randn(2, 3, generator=seeded(5), requires_grad=True)
    chosen = actions("box", 2, 3).clone().requires_grad_()
    total(first, chosen).backward()
    assert first.grad is not None
    assert chosen.grad is not None
    for place in ((0, 0), (1, 1)):
        step = torch.zeros_like(first)
        step[place] = 1e-2
        slope = (total(first + step, chosen) - total(first - step, chosen)) / 2e-2
        assert float(first.grad[place]) == pytest.approx(float(slope.detach()), rel=0.03, abs=2e-3)
        step = torch.zeros_like(chosen)
        step[place[0], 1, place[1]] = 1e-2
        slope = (total(first, chosen + step) - total(first, chosen - step)) / 2e-2
        assert float(chosen.grad[place[0], 1, place[1]]) == pytest.approx(float(slope.detach()), rel=0.03, abs=2e-3)


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_the_loss_is_the_likelihood_of_what_counts(space: str) -> None:
    memory, data = small(space, termination_weight=2.0), batch(space)
    mask, seen = torch.zeros(4, 6), torch.zeros(4, 6)
    mask[1, 2:], seen[1, 2:4] = 1, 1
    counted = SequenceBatch(**(vars(data) | {"mask": mask, "latent_mask": seen}))
    found = memory.loss(counted)
    mean, log_variance = memory.gaussian(data.latents[1, 2:6], data.actions[1, 2:6])
    outcome = torch.cat([data.targets[1, 2:6] - data.latents[1, 2:6], data.rewards[1, 2:6, None]], -1)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    nll = -normal.log_prob((outcome - memory.change_mean) / memory.change_std).mean(0)
    torch.testing.assert_close(found["latent_nll"], nll[:2, :-1].mean())
    torch.testing.assert_close(found["reward"], nll[:, -1].mean())
    parts = found["latent_nll"] + found["reward"] + found["termination"]
    torch.testing.assert_close(found["loss"], parts + memory.networks.bound_penalty())
    found["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in memory.parameters())


def test_a_likelihood_may_count_by_its_variance() -> None:
    mean, log_variance = torch.zeros(1, requires_grad=True), torch.full((1,), math.log(4.0), requires_grad=True)
    normal, value = Gaussian(mean, log_variance), torch.tensor([2.0])
    nats = 0.5 * (1 + math.log(4)) + 0.5 * math.log(2 * math.pi)
    for beta in (0.0, 0.5, 1.0):
        found = normal.nll(value, beta)
        assert found.item() == pytest.approx(4**beta * nats)
        # -(2 - 0) / 4 and (1 - 2² / 4) / 2, as if the factor were a number
        by_mean, by_variance = torch.autograd.grad(found, (mean, log_variance))
        assert by_mean.item() == pytest.approx(-0.5 * 4**beta)
        assert by_variance.item() == pytest.approx(0, abs=1e-6)


def test_variances_lie_between_their_bounds() -> None:
    memory = small()
    far = 1e4 * torch.randn(50, 3, generator=seeded())
    log_variance = memory.gaussian(far, actions("box", 50)).log_variance
    assert log_variance.min() > -3.0 - 1e-4
    assert log_variance.max() < 0.5 + math.log1p(math.exp(-3.5)) + 1e-4


@torch.no_grad()
def test_a_known_termination_function_decides_the_dream_alone() -> None:
    memory = small(termination_fn=lambda latent, action, following: following[:, 0] > latent[:, 0])
    state = memory.initial(torch.zeros(40, 3), noise=seeded())
    followed, prediction = memory.imagine(state, actions("box", 40), noise=seeded(1))
    assert torch.equal(prediction.terminated, followed.latent[:, 0] > 0)
    assert torch.equal(prediction.termination_probability, prediction.terminated.float())
    assert 0 < prediction.terminated.sum() < 40


@torch.no_grad()
def test_a_bundle_keeps_it(tmp_path: Path) -> None:
    memory = small(
        propagation="episode",
        termination="cut",
        termination_weight=3.0,
        termination_fn=lambda latent, action, following: following[:, 0] > 0,
    )
    model = WorldModel(
        IdentityVision(3),
        memory,
        RealEnvSpec("Pendulum-v1"),
        BOX,
        StartStates(
            torch.randn(5, 3, generator=seeded()), {"latent": torch.ones(2, 3), "member": torch.tensor([2, 0])}
        ),
        max_episode_steps=6,
    )
    model.save(tmp_path)
    loaded = WorldModel.load(tmp_path)
    assert loaded.memory.config() == memory.config()
    assert loaded.memory.termination_fn is None
    assert torch.equal(loaded.memory.elite_members, memory.elite_members)
    assert loaded.starts.replay["member"].tolist() == [2, 0]
    # A dream that begins at a replayed moment draws a member of its own
    replayed = loaded.start(torch.zeros(64, dtype=torch.int64), start="replay", noise=seeded())
    assert set(replayed.member.tolist()) == set(memory.elite_members.tolist())
    latents, chosen = torch.randn(7, 3, generator=seeded(3)), actions("box", 7)
    ours, theirs = memory.gaussian(latents, chosen).mean, loaded.memory.gaussian(latents, chosen).mean
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-2)  # fp16 at rest


def test_it_dreams_behind_the_environments() -> None:
    model = WorldModel(
        IdentityVision(3),
        small(),
        RealEnvSpec("Pendulum-v1"),
        BOX,
        StartStates(torch.randn(5, 3, generator=seeded())),
        max_episode_steps=6,
    )
    envs = DreamVectorEnv(model, 4)
    first, _ = envs.reset(seed=3)
    assert first.shape == (4, 3)
    envs.action_space.seed(0)
    moves = [envs.action_space.sample() for _ in range(8)]
    seen = [envs.step(move)[0] for move in moves]
    again, _ = envs.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(seen, [envs.step(move)[0] for move in moves])
    kept = envs.get_state()
    following = envs.step(moves[0])[0]
    envs.set_state(kept)
    np.testing.assert_array_equal(following, envs.step(moves[0])[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 2, "elites": 3}, "elites=3 and members=2"),
        ({"elites": 0}, "1 <= elites"),
        ({"hidden_size": 0}, "at least 1"),
        ({"propagation": "steps"}, "Did you mean step"),
        ({"termination": "cutt"}, "Did you mean cut"),
        ({"termination_weight": 0.0}, "termination_weight"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ProbabilisticEnsemble(3, BOX, **options)
