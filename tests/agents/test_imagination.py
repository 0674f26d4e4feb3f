from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from dreamenv.agents.actor_critic import ActorCritic
from dreamenv.agents.base import Agent
from dreamenv.agents.controller import LinearController
from dreamenv.agents.evolution_state import ValidationScore
from dreamenv.agents.imagination import (
    BEYOND_BOUND,
    Dream,
    Imagination,
    Learned,
    clip_gradients,
    dream,
    imagination_losses,
    lambda_returns,
    learn_on,
    new_actor_critic,
    replay_critic_loss,
    train_actor_critic,
    warn_beyond_bound,
)
from dreamenv.agents.mpc import mpc_agent
from dreamenv.agents.options import ImaginationOptions
from dreamenv.agents.policy_agent import ActorCriticAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.memory.base import Prediction
from dreamenv.noise.base import GeneratorNoise, Noise, as_noise, seeded_weights
from dreamenv.planners.cem import CEM
from dreamenv.training.checkpoint import below, load_tensors
from dreamenv.training.ledger import read_ledger
from dreamenv.training.replay import Windows
from tests.agents.small_dreams import CHOICE, MOVE, TARGET, PlaceState, StairsMemory, TargetMemory, small_dream
from tests.fakes import BOX, CountingMemory, fake_world_model, trained_like_world_model

TINY = ImaginationOptions(steps=6, batch_size=8, horizon=3, width=8)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1)


def test_lambda_returns_by_hand() -> None:
    found = lambda_returns(column(1, 2), column(1, 0.5), column(9, 5, 4), discount=0.5, trace=0.5)
    # R_1 = 2 + 0.5 · 0.5 · 4 = 3 and R_0 = 1 + 0.5 · (0.5 · 5 + 0.5 · 3) = 3
    assert found.squeeze(1).tolist() == [3.0, 3.0]


def test_lambda_returns_at_both_ends_of_the_trace() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, continuation = torch.randn(4, 3, generator=generator), torch.rand(4, 3, generator=generator)
    value = torch.randn(5, 3, generator=generator)
    one_step = lambda_returns(reward, continuation, value, discount=0.9, trace=0.0)
    torch.testing.assert_close(one_step, reward + 0.9 * continuation * value[1:])
    whole = lambda_returns(reward, continuation, value, discount=0.9, trace=1.0)
    weight = torch.cat([torch.ones(1, 3), (0.9 * continuation).cumprod(0)])
    torch.testing.assert_close(whole[0], (weight[:4] * reward).sum(0) + weight[4] * value[4])


def test_where_nobody_knows_what_followed_the_return_is_the_value() -> None:
    unknown = torch.tensor([[False], [True], [False]])
    found = lambda_returns(
        column(1, 2, 3), column(1, 1, 1), column(9, 5, 4, 8), discount=0.5, trace=1.0, unknown=unknown
    )
    # R_2 = 3 + 0.5 · 8, R_1 = v_1 and R_0 = 1 + 0.5 · 5
    assert found.squeeze(1).tolist() == [3.5, 5.0, 7.0]


def test_the_critic_learns_what_really_followed() -> None:
    """Three rewards of 1 and an end, and behind it another episode, whose rewards of 10 are not the first one's."""
    first, terminated = torch.zeros(1, 7, dtype=torch.bool), torch.zeros(1, 7)
    first[0, 4], terminated[0, 3] = True, 1.0
    windows = Windows(torch.eye(7).unsqueeze(0), torch.tensor([[0.0, 1, 1, 1, 0, 10, 10]]), first, terminated)
    with seeded_weights(0):
        networks = ActorCritic(7, MOVE, width=16)
    options = ImaginationOptions(discount=0.5, trace=0.5)
    optimiser = torch.optim.Adam(networks.critic.parameters(), lr=0.02)
    for _ in range(300):
        networks.follow(0.5)
        optimiser.zero_grad()
        replay_critic_loss(networks, windows, options).backward()
        optimiser.step()
    assert networks.critic(torch.eye(7)[:3]).tolist() == pytest.approx([1.75, 1.5, 1.0], rel=0.1)
    clipped = replay_critic_loss(networks, windows, replace(options, reward_clip=(-1.0, 1.0)))
    assert clipped > 2 * replay_critic_loss(networks, windows, options)


def hand_made_losses(continuation: tuple[float, float], **options: Any) -> dict[str, Tensor]:
    """Losses of one dream of two steps with rewards 1 and 2 under a critic that says 0."""
    networks = ActorCritic(1, MOVE, width=8)
    dreamed = Dream(torch.zeros(3, 1, 1), column(1, 2), column(*continuation), torch.zeros(2, 1), torch.zeros(2, 1))
    return imagination_losses(networks, dreamed, ImaginationOptions(discount=0.9, trace=1.0, **options))


def test_termination_discounts_what_follows() -> None:
    # R = (1 + 0.9 c · 2, 2), each weighted by the chance of getting there: 1 and 0.9 c
    assert float(hand_made_losses((1.0, 1.0))["actor"]) == pytest.approx(-(2.8 + 0.9 * 2) / 2)
    assert float(hand_made_losses((0.5, 1.0))["actor"]) == pytest.approx(-(1.9 + 0.45 * 2) / 2)
    assert float(hand_made_losses((0.0, 1.0))["actor"]) == pytest.approx(-0.5)


def test_entropy_is_paid_for_where_the_dream_gets() -> None:
    entropy = column(0.3, 0.7).requires_grad_()
    networks = ActorCritic(1, MOVE, width=8)
    dreamed = Dream(torch.zeros(3, 1, 1), column(1, 2), column(0.5, 1), entropy, torch.zeros(2, 1))
    loss = imagination_losses(networks, dreamed, ImaginationOptions(discount=0.9, trace=1.0, entropy=0.2))["loss"]
    (gradient,) = torch.autograd.grad(loss, entropy)
    # The loss falls with it, by its weight over two steps, of which the second is reached by a chance of 0.45
    assert gradient.squeeze(1).tolist() == pytest.approx([-0.1, -0.1 * 0.45])


def test_the_critic_counts_a_step_by_the_chance_of_getting_there() -> None:
    def critic(continuation: float) -> float:
        return float(hand_made_losses((continuation, 1.0), slow_critic="target")["critic"])

    # A critic that says the same of every return makes each error the same: ln of its bins
    assert critic(0.0) == pytest.approx(critic(1.0) * 1 / 1.9, rel=1e-4)
    assert critic(0.5) == pytest.approx(critic(1.0) * 1.45 / 1.9, rel=1e-4)


def test_dreams_are_as_warm_as_is_asked_for() -> None:
    model = trained_like_world_model(image=False)
    networks = new_actor_critic(model, TINY, seed=0)
    state = model.memory.initial(torch.zeros(8, 4), noise=torch.Generator().manual_seed(0))
    found = [
        float(
            Imagination(model.memory, networks, TINY, temperature=temperature).losses(
                state, as_noise(torch.Generator().manual_seed(1))
            )["dream_reward"]
        )
        for temperature in (0.0, 0.0, 1.0)
    ]
    assert found[0] == found[1] != found[2]


def test_returns_beyond_what_the_critic_can_say_are_told() -> None:
    assert float(hand_made_losses((1.0, 1.0))[BEYOND_BOUND]) == 0.0
    networks = ActorCritic(1, MOVE, width=8, value_bound=2.5)
    dreamed = Dream(torch.zeros(3, 1, 1), column(1, 2), column(1, 1), torch.zeros(2, 1), torch.zeros(2, 1))
    options = ImaginationOptions(discount=0.9, trace=1.0, value_bound=2.5)
    found = imagination_losses(networks, dreamed, options)
    assert float(found[BEYOND_BOUND]) == 0.5, "of 1 + 0.9 · 2 and 2 the first"
    with pytest.warns(UserWarning, match=r"pass value_bound=2\.5, the largest value that the critic can say"):
        warn_beyond_bound({name: float(part.detach()) for name, part in found.items()}, options)


def test_training_warns_of_returns_that_the_critic_cannot_say(tmp_path: Path) -> None:
    model = small_dream(TargetMemory(), MOVE)
    options = ImaginationOptions(steps=2, batch_size=4, horizon=2, width=8, value_bound=1e-6, gradient="reinforce")
    with pytest.warns(UserWarning, match="pass value_bound=1e-06"):
        train_actor_critic(model, out_dir=tmp_path, options=options, validate_every=1)
    begin = ActorCritic(model.memory.feature_size, model.action_space, width=8)
    with pytest.raises(ConfigurationError, match="value_bound=1e-06, and the critic to begin with reaches 1000"):
        train_actor_critic(model, out_dir=tmp_path / "other", options=options, begin=begin)


def test_rewards_are_clipped() -> None:
    assert float(hand_made_losses((0.0, 1.0), reward_clip=(-1.0, 0.25))["actor"]) == pytest.approx(-0.125)


def test_rewards_are_squashed_once_they_are_clipped() -> None:
    clipped = hand_made_losses((1.0, 1.0), reward_clip=(-1.0, 1.5), reward_squash=2.0)
    first, second = 2 * math.tanh(0.5), 2 * math.tanh(0.75)
    assert float(clipped["actor"]) == pytest.approx(-(first + 1.8 * second) / 2, rel=1e-5)


def test_large_returns_are_scaled_down_and_small_ones_are_not() -> None:
    networks = ActorCritic(1, MOVE, width=8)
    reward = 1000.0 * torch.arange(10.0).unsqueeze(0)
    dreamed = Dream(torch.zeros(2, 10, 1), reward, torch.ones(1, 10), torch.zeros(1, 10), torch.zeros(1, 10))
    first = float(imagination_losses(networks, dreamed, ImaginationOptions())["actor"])
    for _ in range(500):
        last = float(imagination_losses(networks, dreamed, ImaginationOptions())["actor"])
    # Between the 5% and the 95% quantile of 0, 1000, ... 9000 lie 8100
    assert float(networks.scale) == pytest.approx(8100, rel=0.01)
    assert last == pytest.approx(-4500 / 8100, rel=0.01)
    assert first == pytest.approx(-4500 / 82, rel=0.01)


def test_the_critic_is_not_moved_by_what_the_actor_wants() -> None:
    """As a target or as a regulariser, the slow critic keeps still, and the critic follows its regression alone."""
    found = {}
    for slow in ("target", "regulariser"):
        with seeded_weights(0):
            networks = ActorCritic(1, MOVE, width=8)
        generator = torch.Generator().manual_seed(0)
        for part in [*networks.critic.parameters(), *networks.target.parameters()]:
            with torch.no_grad():  # both say something, and not the same
                part.add_(0.3 * torch.randn(part.shape, generator=generator))
        features = torch.randn(3, 5, 1, generator=generator).requires_grad_()
        still = torch.zeros(2, 5)
        dreamed = Dream(features, still, torch.ones(2, 5), still, still)
        # With a reward of zero and no weight on the way, the actor's loss is minus the critic's own value
        options = ImaginationOptions(slow_critic=slow, entropy=0.0, discount=1.0, trace=1.0)
        losses = imagination_losses(networks, dreamed, options)
        gradients = torch.autograd.grad(losses["loss"], [features, *networks.critic.parameters()], retain_graph=True)
        values = networks.critic if slow == "regulariser" else networks.target
        with torch.no_grad():
            targets = values(features[-1]).expand(2, 5)
        before = features[:-1].detach().flatten(0, 1)
        regression = networks.critic.loss(before, targets.flatten())
        if slow == "regulariser":
            with torch.no_grad():
                slow_values = networks.target(before)
            regression = regression + networks.critic.loss(before, slow_values)
        wanted = torch.autograd.grad(regression.mean(), list(networks.critic.parameters()))
        for ours, other in zip(gradients[1:], wanted, strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-3)
        assert float(gradients[0][-1].abs().sum()) > 0, "the actor's gradient reaches the last state through the value"
        assert not any(part.requires_grad for part in networks.target.parameters())
        found[slow] = float(losses["critic"])
    assert found["target"] != found["regulariser"]


class _Still:
    """Noise that is none."""

    def uniform(self, rows: int, columns: int) -> Tensor:
        return torch.full((rows, columns), 0.5)

    def normal(self, rows: int, columns: int) -> Tensor:
        return torch.zeros(rows, columns)


def test_the_actors_gradient_agrees_with_finite_differences() -> None:
    """In a deterministic dream, over several steps, through reward, state and critic."""
    model = small_dream(TargetMemory(ends=0.1), MOVE)
    options = ImaginationOptions(horizon=4, discount=0.9, trace=0.8, entropy=0.0, width=16)
    networks = new_actor_critic(model, options, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():  # away from where weights begin: outputs near 0 and a critic that says 0
        for weights in [*networks.actor.parameters(), *networks.target.parameters()]:
            weights.add_(0.2 * torch.randn(weights.shape, generator=generator))

    def actor_loss() -> tuple[Tensor, Tensor]:
        networks.scale.zero_()
        state = model.start(torch.arange(41), noise=generator)
        dreamed = dream(model.memory, networks, state, horizon=4, temperature=1.0, noise=_Still())
        losses = imagination_losses(networks, dreamed, options)
        return losses["loss"], losses["actor"]

    actor_loss()[0].backward()
    weights = list(networks.actor.parameters())
    gradient = [w.grad.clone() for w in weights if w.grad is not None]
    assert len(gradient) == len(weights)
    for _ in range(5):
        direction = [torch.randn(w.shape, generator=generator) for w in weights]
        length = sum(float(d.square().sum()) for d in direction) ** 0.5
        found = []
        for sign in (1, -1):
            with torch.no_grad():
                for w, d in zip(weights, direction, strict=True):
                    w.add_(d, alpha=sign * 0.01 / length)
                found.append(float(actor_loss()[1]))
                for w, d in zip(weights, direction, strict=True):
                    w.sub_(d, alpha=sign * 0.01 / length)
        predicted = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True)) / length
        assert abs(predicted) > 1e-4
        assert (found[0] - found[1]) / 0.02 == pytest.approx(predicted, rel=0.02, abs=2e-5)


class SteepMemory(TargetMemory):
    """The same dream, but that the gradient of what begins above 0.9 grows tenfold with every step back."""

    def imagine(
        self, state: PlaceState, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[PlaceState, Prediction]:
        growing = state.place + 9 * (state.place - state.place.detach())
        place = torch.where(state.place > 0.9, growing, state.place)
        return super().imagine(PlaceState(place), action, noise=noise, temperature=temperature)


def test_clipped_gradients_of_few_dreams_do_not_drown_the_others() -> None:
    def direction(memory: TargetMemory, gradient_clip: float | None) -> Tensor:
        """Of the actor's gradient, after six steps from 41 places, of which two are above 0.9."""
        model = small_dream(memory, MOVE)
        options = ImaginationOptions(horizon=6, entropy=0.0, width=16, gradient_clip=gradient_clip)
        networks = new_actor_critic(model, options, seed=0)
        noise = as_noise(torch.Generator().manual_seed(0))
        state = model.start(torch.arange(41), noise=noise)
        Imagination(model.memory, networks, options, temperature=1.0).losses(state, noise)["loss"].backward()
        gradient = torch.cat([p.grad.flatten() for p in networks.actor.parameters() if p.grad is not None])
        return gradient / gradient.norm()

    true = direction(TargetMemory(), None)
    assert true @ direction(SteepMemory(), None) < 0
    assert true @ direction(SteepMemory(), 1.0) > 0.6
    torch.testing.assert_close(direction(TargetMemory(), 1e6), true)


def test_gradients_are_clipped_row_by_row() -> None:
    states = torch.zeros(20, 2, requires_grad=True)
    gradient = torch.tensor([[3.0, 4.0]]).repeat(20, 1)
    gradient[0] *= 100
    clip_gradients(states, 2.0).backward(gradient)
    assert states.grad is not None
    torch.testing.assert_close(states.grad[1:], gradient[1:])
    torch.testing.assert_close(states.grad[0], torch.tensor([6.0, 8.0]))
    few = torch.zeros(20, 2, requires_grad=True)  # where most dreams have no gradient there is nothing to go by
    clip_gradients(few, 2.0).backward(torch.eye(20)[:, :1].repeat(1, 2))
    torch.testing.assert_close(few.grad, torch.eye(20)[:, :1].repeat(1, 2))


@pytest.mark.parametrize(("gradient", "steps"), [("dynamics", 300), ("reinforce", 600)])
def test_finds_the_optimum_of_a_small_box_dream(gradient: str, steps: int, tmp_path: Path) -> None:
    model = small_dream(TargetMemory(), MOVE)
    options = ImaginationOptions(
        steps=steps,
        batch_size=64,
        horizon=5,
        discount=0.9,
        learning_rate=3e-3,
        entropy=1e-4,
        width=32,
        gradient=gradient,
    )
    agent = train_actor_critic(model, out_dir=tmp_path, options=options).agent
    places = np.linspace(-1, 1, 9, dtype=np.float32)
    action, _ = agent.predict(places[:, None])
    assert np.abs(action[:, 0] - np.clip(TARGET - places, -0.5, 0.5)).max() < 0.12


@pytest.mark.parametrize("gradient", ["dynamics", "reinforce"])
@pytest.mark.parametrize(("discount", "best"), [(0.9, CHOICE.start + 2), (0.5, CHOICE.start + 1)])
def test_finds_the_optimum_of_a_small_discrete_dream(discount: float, best: int, gradient: str, tmp_path: Path) -> None:
    """The same stairs: worth climbing for the farsighted alone, whom the critic must tell of what lies beyond."""
    model = small_dream(StairsMemory(), CHOICE)
    options = ImaginationOptions(
        steps=250 if gradient == "dynamics" else 600,
        batch_size=64,
        horizon=4,
        discount=discount,
        learning_rate=3e-3,
        entropy=1e-3,
        width=32,
        gradient=gradient,
    )
    agent = train_actor_critic(model, out_dir=tmp_path, options=options).agent
    action, _ = agent.predict(np.linspace(-1, 1, 9, dtype=np.float32)[:, None])
    assert action.tolist() == [best] * 9
    # So is a planner who sees one step ahead, where the critic tells it
    near, told = (
        mpc_agent(f"planner:cem,horizon=1,discount={discount}{guide}", model).planner
        for guide in ("", f",guide={tmp_path}")
    )
    assert isinstance(told, CEM)
    state = PlaceState(torch.zeros(1, 1))
    chosen = [
        int(planner.plan(model, state, noise=torch.Generator().manual_seed(0)).action)
        for planner in (near, replace(told, policy=None))
    ]
    assert chosen == [CHOICE.start + 1, best]


class Interrupted(Exception):
    pass


def interrupt_at(step: int) -> Any:
    def progress(reached: int, steps: int, scalars: dict[str, float]) -> None:
        if reached == step:
            raise Interrupted

    return progress


def same(first: Learned, second: Learned) -> bool:
    one, two = first.agent.tensors(), second.agent.tensors()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("space", [BOX, spaces.Discrete(4, start=1)], ids=["box", "discrete"])
def test_a_resumed_run_ends_as_an_unbroken_one(space: Any, tmp_path: Path) -> None:
    model = trained_like_world_model(action_space=space, image=False)
    run: dict[str, Any] = {"options": TINY, "seed": 3, "validate_every": 2}
    unbroken = train_actor_critic(model, out_dir=tmp_path / "unbroken", **run)
    for step in (2, 4):
        with pytest.raises(Interrupted):
            train_actor_critic(model, out_dir=tmp_path / "broken", progress=interrupt_at(step), **run)
    resumed = train_actor_critic(model, out_dir=tmp_path / "broken", **run)
    assert same(unbroken, resumed)
    files = [folder / "checkpoint.safetensors" for folder in (tmp_path / "unbroken", tmp_path / "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()  # the critics, Adam and the scale of returns too
    other = train_actor_critic(model, out_dir=tmp_path / "other", **(run | {"seed": 4}))
    assert not same(unbroken, other)


def test_validation_keeps_the_best_agent_and_counts_frames(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    scores = {2: 1.0, 4: 7.0, 6: 5.0}
    seen: list[dict[str, Tensor]] = []

    def validate(agent: Agent) -> ValidationScore:
        seen.append({name: part.clone() for name, part in agent.tensors().items()})  # type: ignore[attr-defined]
        score = scores[2 * len(seen)]
        return ValidationScore(score, (score,), 10)

    rows: list[dict[str, float]] = []
    learned = train_actor_critic(
        model,
        out_dir=tmp_path,
        options=TINY,
        validate=validate,
        validate_every=2,
        progress=lambda step, steps, scalars: rows.append(scalars),
    )
    assert (learned.validation, learned.real_frames) == (7.0, 30)
    assert all(torch.equal(part, seen[1][name]) for name, part in learned.agent.tensors().items())
    assert not torch.equal(seen[1]["network.0.weight"], seen[2]["network.0.weight"])
    assert read_ledger(tmp_path) == {f"validation at step {step}": 10 for step in (2, 4, 6)}
    assert [row["held_out/real_return"] for row in rows] == [1.0, 7.0, 5.0]
    loaded = load_agent(learned.file)
    assert loaded.provenance["validation"] == {"mean": 7.0}
    assert loaded.provenance["real_frames"] == 30


def test_a_run_may_begin_with_given_networks(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    begin = new_actor_critic(model, TINY, seed=9)
    before = begin.actor.network[0].weight.clone()
    learned = train_actor_critic(model, out_dir=tmp_path, options=TINY, begin=begin)
    assert learned.agent.actor is begin.actor
    assert not torch.equal(begin.actor.network[0].weight, before)
    with pytest.raises(ConfigurationError, match="critic_first=4 leaves a new actor nothing of 4 steps"):
        train_actor_critic(model, out_dir=tmp_path / "still", options=replace(TINY, steps=4, critic_first=4))
    with pytest.raises(ConfigurationError, match=r"actor_average=0\.1, and .* keep no mean of their actor"):
        train_actor_critic(model, out_dir=tmp_path / "mean", options=replace(TINY, actor_average=0.1), begin=begin)


def test_the_critic_learns_first(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    run: dict[str, Any] = {"options": replace(TINY, critic_first=4), "seed": 3, "validate_every": 2}
    first = new_actor_critic(model, TINY, seed=3).state_dict()

    def changed(folder: str) -> dict[str, bool]:
        tensors, _ = load_tensors(tmp_path / folder / "checkpoint.safetensors")
        parts = below("best.", tensors)
        return {
            part: any(not torch.equal(parts[name], first[name]) for name in parts if name.startswith(part))
            for part in ("actor.", "critic.")
        }

    with pytest.raises(Interrupted):
        train_actor_critic(model, out_dir=tmp_path / "broken", progress=interrupt_at(4), **run)
    assert changed("broken") == {"actor.": False, "critic.": True}
    resumed = train_actor_critic(model, out_dir=tmp_path / "broken", **run)
    assert changed("broken") == {"actor.": True, "critic.": True}
    assert same(train_actor_critic(model, out_dir=tmp_path / "unbroken", **run), resumed)


def test_an_agent_learns_on(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    options = replace(TINY, width=2 * TINY.width)
    learned = train_actor_critic(model, out_dir=tmp_path / "a", options=options)
    networks, wider = learn_on(model, learned.agent, TINY, seed=8)
    assert (wider.width, wider.steps) == (options.width, TINY.steps)
    actor = learned.agent.actor.state_dict()
    assert all(torch.equal(part, actor[name]) for name, part in networks.actor.state_dict().items())
    assert learned.agent.guide is not None
    critic = learned.agent.guide.critic.state_dict()
    for part in (networks.critic, networks.target):
        assert all(torch.equal(tensor, critic[name]) for name, tensor in part.state_dict().items())
    for other in ({"discount": 0.5}, {"reward_squash": 2.0}, {"reward_clip": (-1.0, 1.0)}, {"value_bound": 7.0}):
        asked = replace(wider, **other)  # type: ignore[arg-type]
        without, _ = learn_on(model, learned.agent, asked, seed=8)
        fresh = new_actor_critic(model, asked, seed=8).critic.state_dict()
        assert all(torch.equal(tensor, fresh[name]) for name, tensor in without.critic.state_dict().items())
    train_actor_critic(model, out_dir=tmp_path / "b", options=wider, begin=networks)
    with pytest.raises(ConfigurationError, match="begin"):
        train_actor_critic(model, out_dir=tmp_path / "b", options=wider)  # another run than the folder's
    space = model.observation_space("features")
    linear = LinearController(np.zeros((2, space.shape[0] + 1)), space, model.action_space)
    with pytest.raises(ConfigurationError, match="of kind 'linear' has no actor to go on with"):
        learn_on(model, linear, TINY, seed=0)


def test_the_mean_actor_plays(tmp_path: Path) -> None:
    """What is kept is the running mean of the weights that the same run has without a mean; resumed to the bit."""
    model = trained_like_world_model(image=False)
    seen: list[dict[str, Tensor]] = []

    def look(agent: Agent) -> ValidationScore:
        assert isinstance(agent, ActorCriticAgent)
        seen.append({name: part.clone() for name, part in agent.actor.state_dict().items()})
        return ValidationScore(0.0, (0.0,), 1)

    train_actor_critic(model, out_dir=tmp_path / "plain", options=TINY, seed=3, validate=look, validate_every=1)
    expected = dict(new_actor_critic(model, TINY, seed=3).actor.state_dict())
    for weights in seen[:-1]:  # a step moves the mean towards the weights that it begins with
        expected = {name: part.lerp(weights[name], 0.25) for name, part in expected.items()}
    run: dict[str, Any] = {"options": replace(TINY, actor_average=0.25), "seed": 3, "validate_every": 2}
    learned = train_actor_critic(model, out_dir=tmp_path / "mean", **run)
    for name, part in learned.agent.actor.state_dict().items():
        torch.testing.assert_close(part, expected[name])
    with pytest.raises(Interrupted):
        train_actor_critic(model, out_dir=tmp_path / "broken", progress=interrupt_at(4), **run)
    assert same(train_actor_critic(model, out_dir=tmp_path / "broken", **run), learned)
    networks, _ = learn_on(model, learned.agent, replace(TINY, actor_average=0.25), seed=8)
    assert networks.mean_actor is not None
    for actor in (networks.actor, networks.mean_actor):
        assert all(torch.equal(part, learned.agent.tensors()[name]) for name, part in actor.state_dict().items())


def test_a_critic_of_other_rewards_is_not_kept(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    for name, options in (("clip", {"reward_clip": (-1.0, 1.0)}), ("squash", {"reward_squash": 2.0}), ("none", {})):
        learned = train_actor_critic(model, out_dir=tmp_path / name, options=replace(TINY, **options))  # type: ignore[arg-type]
        assert (learned.agent.guide is None) == bool(options)
    with pytest.raises(ConfigurationError, match="has no policy and value to search with.*clipped or squashed"):
        mpc_agent(f"planner:cem,guide={tmp_path / 'clip'}", model)
    mpc_agent(f"planner:cem,guide={tmp_path / 'none'},discount={TINY.discount}", model)
    with pytest.raises(
        ConfigurationError, match=r"values are those of discount=0\.97, .* give the planner discount=0\.97"
    ):
        mpc_agent(f"planner:cem,guide={tmp_path / 'none'}", model)


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    before = {name: part.clone() for name, part in model.memory.state_dict().items()}
    train_actor_critic(model, out_dir=tmp_path, options=TINY)
    assert all(torch.equal(part, before[name]) for name, part in model.memory.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.memory.parameters())


def test_bad_runs(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    train_actor_critic(model, out_dir=tmp_path, options=TINY)
    with pytest.raises(ConfigurationError, match="written with seed=0, this run has seed=1"):
        train_actor_critic(model, out_dir=tmp_path, options=TINY, seed=1)
    with pytest.raises(ConfigurationError, match="does not fit"):
        train_actor_critic(model, out_dir=tmp_path / "map", options=ImaginationOptions(action_map="argmax"))
    broken = fake_world_model(CountingMemory(broken_from=2), action_space=BOX)
    with pytest.raises(NonFiniteError, match="not finite at step 0"):
        train_actor_critic(broken, out_dir=tmp_path / "broken", options=TINY)


def test_dreams_have_time_first(tmp_path: Path) -> None:
    model = trained_like_world_model(image=False)
    networks = new_actor_critic(model, TINY, seed=0)
    noise = GeneratorNoise(torch.Generator().manual_seed(0))
    state = model.start(torch.arange(5), noise=noise)
    dreamed = dream(model.memory, networks, state, horizon=7, temperature=1.0, noise=noise)
    assert dreamed.features.shape == (8, 5, model.memory.feature_size)
    assert dreamed.reward.shape == dreamed.continuation.shape == dreamed.entropy.shape == (7, 5)


def test_gradients_through_a_memory_that_carries_none_are_refused(tmp_path: Path) -> None:
    class Counted(TargetMemory):
        differentiable = False

    model = small_dream(Counted(), MOVE)
    with pytest.raises(ConfigurationError, match="Counted carries no gradients; take gradient='reinforce'"):
        train_actor_critic(model, out_dir=tmp_path, options=ImaginationOptions(steps=1, horizon=5))
    options = ImaginationOptions(steps=1, horizon=5, gradient="reinforce", batch_size=4, replay_share=0.0)
    assert train_actor_critic(model, out_dir=tmp_path, options=options).file.exists()


def test_dreams_longer_than_the_models_limit_are_refused(tmp_path: Path) -> None:
    model = small_dream(TargetMemory(), MOVE)
    with pytest.raises(ConfigurationError, match="horizon=11 actions, but the model's time limit is 10"):
        train_actor_critic(model, out_dir=tmp_path, options=ImaginationOptions(steps=1, horizon=11))
    assert not list(tmp_path.iterdir())
