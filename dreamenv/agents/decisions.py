"""A planner's decisions, in dreams or in copies of a real environment, as what a network can learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn import functional

from dreamenv.agents.policy_value import PolicyValue
from dreamenv.memory.states import merge
from dreamenv.noise.base import Noise, as_noise, step_generator
from dreamenv.planners.base import Plan, Planner
from dreamenv.planners.environment_search import Seen, search_environment
from dreamenv.planners.sequences import sequences_of
from dreamenv.world_model import WorldModel


class Decisions(NamedTuple):
    """N decisions.

    Attributes:
        features: `[N, F]`, what was seen.
        behaviour: `[N, n]`, the planner's chances of Discrete actions; or `[N, A]`, its Box action in shares of the
            range, from -1 to 1.
        value: `[N]`, what the value is to learn.
    """

    features: Tensor
    behaviour: Tensor
    value: Tensor


@dataclass(frozen=True)
class Expert:
    """How decisions are made; see `DistillationOptions`."""

    decisions: int
    dreams: int
    max_steps: int | None
    replay_share: float
    student_share: float
    random_share: float
    value: str
    discount: float


class _Step(NamedTuple):
    """One step of B episodes: seen features, behaviour, what the planner expects, reward, ends by the task or a cut."""

    features: Tensor
    behaviour: Tensor
    expected: Tensor
    reward: Tensor
    ended: Tensor
    cut: Tensor


@torch.no_grad()
def decide_in_dream(
    world_model: WorldModel,
    planner: Planner,
    student: PolicyValue | None,
    how: Expert,
    *,
    seed: list[int],
    progress: Callable[[int, int], None],
) -> Decisions:
    """Decisions in `how.dreams` dreams at once, in which planner, student and chance act in turn."""
    memory, device = world_model.memory, world_model.device
    rng = np.random.default_rng([*seed, 1])
    noise = as_noise(step_generator(seed[0], seed[1], device))
    temperature = world_model.temperature
    limit = how.max_steps or world_model.max_episode_steps
    stepper = memory.stepper(how.dreams)
    state = _begin(world_model, how.dreams, how.replay_share, rng, noise)
    warm, age = planner.cold(world_model, how.dreams), torch.zeros(how.dreams, dtype=torch.int64, device=device)
    steps = []
    for step in range(count := -(-how.decisions // how.dreams)):
        features = memory.features(state).float()
        plan = planner.plan(world_model, state, noise=noise, warm=warm)
        action = _acts(world_model, plan, student, features, how, rng, noise)
        state, prediction = stepper(state, action, noise=noise, temperature=temperature)
        age += 1
        ended = prediction.terminated
        cut = (age >= limit) & ~ended
        behaviour = _behaviour(world_model.action_space, plan, device)
        steps.append(_Step(features, behaviour, plan.value, prediction.reward, ended, cut))
        warm = planner.shifted(world_model, plan.proposal, 1)
        over = (ended | cut).nonzero().squeeze(1)
        if len(over):
            state = merge(state, over, _begin(world_model, len(over), how.replay_share, rng, noise))
            warm, age = warm.clone(), age.clone()
            warm[over], age[over] = planner.cold(world_model, len(over)), 0
        progress(step + 1, count)
    return _targets(steps, how)


def decide_in_environment(
    env: gym.Env[Any, Any],
    search: dict[str, Any],
    student: PolicyValue | None,
    how: Expert,
    *,
    seed: list[int],
    progress: Callable[[int, int], None],
) -> Decisions:
    """Decisions of a tree search in whole episodes of an environment; a random action is drawn from its visits."""
    space: Any = env.action_space
    start = int(space.start)
    rng = np.random.default_rng([*seed, 2])
    steps: list[_Step] = []
    cut = True
    age = 0
    while len(steps) < how.decisions or not (cut or bool(steps[-1].ended)):
        if cut or bool(steps[-1].ended):
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
            age = 0
        features = torch.from_numpy(np.asarray(observation, np.float32)[None])
        seen = None if student is None else Seen(student, observation)
        plan = search_environment(env, generator=rng, discount=how.discount, seen=seen, **search)
        chances = plan.visits / plan.visits.sum()
        action = plan.action
        if student is not None and rng.random() < how.student_share:
            with torch.no_grad():
                action = int(student.action(features))
        if rng.random() < how.random_share:
            action = start + int(rng.choice(len(chances), p=chances))
        observation, reward, terminated, truncated, _ = env.step(action)
        age += 1
        cut = not terminated and (truncated or age == how.max_steps)
        figures = (torch.tensor([found]) for found in (plan.value, float(reward), bool(terminated), bool(cut)))
        steps.append(_Step(features, torch.from_numpy(chances[None]).float(), *figures))
        progress(min(len(steps), how.decisions), how.decisions)
    return _targets(steps, how)


def _begin(world_model: WorldModel, rows: int, replay_share: float, rng: np.random.Generator, noise: Noise) -> Any:
    """Memory states of `rows` dreams: from moments of real episodes, by share, or where dreams begin."""
    replayed = int((rng.random(rows) < replay_share).sum()) if world_model.starts.replay else 0
    parts = []
    for kind, count in (("replay", replayed), ("initial", rows - replayed)):
        if count:
            index = torch.from_numpy(rng.integers(world_model.start_count(kind), size=count)).to(world_model.device)  # type: ignore[arg-type]
            parts.append(world_model.start(index, start=kind, noise=noise))  # type: ignore[arg-type]
    return type(parts[0])(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def _acts(
    world_model: WorldModel,
    plan: Plan,
    student: PolicyValue | None,
    features: Tensor,
    how: Expert,
    rng: np.random.Generator,
    noise: Noise,
) -> Tensor:
    """The action of each row: the planner's, the student's or a random one."""
    rows = len(features)
    sequences = sequences_of(world_model.action_space, world_model.device)
    random = sequences.actions(sequences.uniform(rows, 1, 1, noise))[:, 0, 0]
    action = plan.action
    choices = [(how.random_share, random)]
    if student is not None:
        choices.insert(0, (how.student_share, student.action(features)))
    for share, other in choices:
        chosen = torch.from_numpy(rng.random(rows) < share).to(action.device)
        action = torch.where(chosen.view(-1, *[1] * (action.ndim - 1)), other.to(action.dtype), action)
    return action


def _behaviour(action_space: gym.Space[Any], plan: Plan, device: torch.device) -> Tensor:
    if plan.policy is not None:
        return plan.policy.float()
    if isinstance(action_space, spaces.Discrete):
        return functional.one_hot(plan.action - int(action_space.start), int(action_space.n)).float()
    return sequences_of(action_space, device).plans(plan.action)


def _targets(steps: list[_Step], how: Expert) -> Decisions:
    """The decisions of all steps, row by row within each step."""
    worth = [step.expected.float() for step in steps]
    if how.value == "return":
        worth = returns_of(
            *(torch.stack([getattr(step, name) for step in steps]) for name in ("expected", "reward", "ended", "cut")),
            discount=how.discount,
        )
    features, behaviour = (torch.cat([getattr(step, name) for step in steps]).cpu() for name in _Step._fields[:2])
    return Decisions(features, behaviour, torch.cat(worth).cpu())


def returns_of(expected: Tensor, reward: Tensor, ended: Tensor, cut: Tensor, *, discount: float) -> list[Tensor]:
    """Discounted returns `[T]` of `[B]` each, up to the end of the task, or to what was expected at a step that is cut.

    Args:
        expected: `[T, B]`, what the planner expected at each step; it stands in for the steps that were not played.
        reward: `[T, B]`.
        ended: `[T, B]` bool, whether the task ended with the step.
        cut: `[T, B]` bool, whether the episode was cut behind the step.
        discount: γ.
    """
    expected, reward = expected.float(), reward.float()
    found: list[Tensor] = []
    following = expected[-1]
    for step in reversed(range(len(reward))):
        last = cut[step] | (torch.full_like(cut[step], step == len(reward) - 1) & ~ended[step])
        played = reward[step] + torch.where(ended[step], 0.0, discount * following)
        following = torch.where(last, expected[step], played)
        found.append(following)
    return found[::-1]
