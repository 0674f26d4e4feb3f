"""Episodes of an agent as pictures, in the dream and in the real environment."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray

from dreamenv.agents.base import Agent, check_spaces, observation_kind
from dreamenv.agents.random_agent import RandomAgent
from dreamenv.bundle import StartStates
from dreamenv.data.preprocess import make_real_env
from dreamenv.envs.latent_observation import LatentObservation
from dreamenv.envs.render import draw_bars, draw_dreams, enlarge
from dreamenv.envs.rollout import DreamRollout
from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.figures.video import Frames, fit
from dreamenv.world_model import WorldModel

RANDOM = "random"
VIEWS = ("seen", "rendered")
FRAME_SIZE = 256


@dataclass(frozen=True)
class Clip:
    """One episode as pictures.

    Attributes:
        frames: `[T+1, H, W, 3]` uint8; frame 0 is before the first action.
        rewards: `[T]` float64 in units of the real environment; in a dream, those that M predicts.
        terminated, truncated: How it ended; both False when it was cut off at `steps`.
        first_observation: The real first observation, None of a dream.
    """

    frames: Frames
    rewards: NDArray[np.float64]
    terminated: bool
    truncated: bool
    first_observation: NDArray[Any] | None = None

    @property
    def undiscounted_return(self) -> float:
        """Sum of the rewards."""
        return float(self.rewards.sum())

    def captions(self) -> list[str]:
        """A line for each frame: the return so far, and at the end that it ended."""
        returns = np.concatenate([[0.0], np.cumsum(self.rewards)])
        lines = [f"return {value:.0f}" for value in returns]
        if self.terminated:
            lines[-1] += "  ended"
        return lines


def record_dream(
    model: WorldModel,
    agent: Agent | str,
    *,
    seed: int = 0,
    steps: int | None = None,
    first_observation: NDArray[Any] | None = None,
    temperature: float | None = None,
    start: str = "initial",
    size: int = FRAME_SIZE,
) -> Clip:
    """One dreamed episode of an agent, decoded.

    Args:
        model: The world model.
        agent: The agent, or "random" for uniform actions.
        seed: Fixes start state, noise, and the actions of "random".
        steps: Most actions; None takes the model's time limit.
        first_observation: The dream starts at what V sees in this real observation; None: at a start state of kind
            `start`.
        temperature: None takes the model's own.
        start: "initial" or "replay".
        size: Side of a frame in pixels.

    Raises:
        SpaceMismatchError: The agent's spaces are not those of the model, or the first observation has another shape.
        ConfigurationError: A number out of range.
    """
    steps = _checked_steps(model.max_episode_steps if steps is None else min(steps, model.max_episode_steps))
    kind = "features" if isinstance(agent, str) else observation_kind(agent, model)
    if first_observation is not None:
        model, start = _starting_at(model, first_observation), "initial"
    rollout = DreamRollout(model, 1, observation=kind, temperature=temperature, start=start)
    player = _player(agent, rollout.observation_space, model, seed)
    rollout.reset(np.zeros(1, np.int64), [seeding.np_random(seed)[0]])
    frames = [_dream_frame(rollout, size)]
    rewards: list[float] = []
    state: Any = None
    terminated = False
    while len(rewards) < steps and not terminated:
        action, state = player.predict(rollout.observations()[0], state, np.array([not rewards]), True)
        result = rollout.step(np.asarray(action)[None])
        rewards.append(float(result.reward[0]))
        terminated = bool(result.terminated[0])
        frames.append(_dream_frame(rollout, size))
    truncated = not terminated and len(rewards) == model.max_episode_steps
    return Clip(np.stack(frames), np.array(rewards), terminated, truncated)


def record_real(
    model: WorldModel,
    agent: Agent | str,
    *,
    seed: int = 0,
    steps: int | None = None,
    view: str = "seen",
    size: int = FRAME_SIZE,
) -> Clip:
    """One real episode of an agent that sees through V and M, as in the latent twin.

    Args:
        model: The world model.
        agent: The agent, or "random" for uniform actions.
        seed: Of the real reset, and of the actions of "random".
        steps: Most actions; None plays the episode to its end.
        view: "seen": the preprocessed frame that V is given; "rendered": the environment's own picture.
        size: Side of a frame in pixels ("rendered" keeps its proportions within it).

    Raises:
        SpaceMismatchError: The agent's spaces are not those of the model.
        MissingExtraError: The real environment's package is not installed.
        ConfigurationError: An unknown view or a number out of range.
    """
    if view not in VIEWS:
        raise ConfigurationError(f"view={view!r} is not known. {did_you_mean(str(view), VIEWS)}")
    limit = None if steps is None else _checked_steps(steps)
    rendered = view == "rendered"
    watched = _Watched(make_real_env(model.real, render_mode="rgb_array" if rendered else None))
    kind = "features" if isinstance(agent, str) else observation_kind(agent, model)
    env = LatentObservation(watched, model, observation=kind)
    try:
        player = _player(agent, env.observation_space, model, seed)
        observation, _ = env.reset(seed=seed)
        first = watched.last

        def frame() -> Frames:
            return fit(np.asarray(env.render()), size) if rendered else _picture(watched.last, size)

        frames = [frame()]
        rewards: list[float] = []
        state: Any = None
        terminated = truncated = False
        while not (terminated or truncated or len(rewards) == limit):
            action, state = player.predict(observation, state, np.array([not rewards]), True)
            observation, reward, terminated, truncated, info = env.step(action)
            rewards.append(float(reward))
            # A blank last frame would end the picture in a flash
            frames.append(frame() if info["observation_valid"] else frames[-1])
    finally:
        env.close()
    return Clip(np.stack(frames), np.array(rewards), terminated, truncated, first)


class _Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the observation that V was given last."""

    last: NDArray[Any]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.last, info = self.env.reset(seed=seed, options=options)
        return self.last, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.last, reward, terminated, truncated, info = self.env.step(action)
        return self.last, reward, terminated, truncated, info


def _player(agent: Agent | str, observation_space: gym.Space[Any], model: WorldModel, seed: int) -> Agent:
    if isinstance(agent, str):
        if agent != RANDOM:
            raise ConfigurationError(f"agent={agent!r}: give an agent (see load_agent) or {RANDOM!r}")
        return RandomAgent(observation_space, model.action_space, generator=seed)
    check_spaces(agent, observation_space, model.action_space, f"the model of {model.real.id}")
    return agent


@torch.no_grad()
def _starting_at(model: WorldModel, observation: NDArray[Any]) -> WorldModel:
    """The model, sharing all weights, with a single start state: what V sees in `observation`."""
    if observation.shape != model.vision.observation_shape:
        raise ConfigurationError(
            f"first_observation has shape {observation.shape}, V takes {model.vision.observation_shape}"
        )
    latent = model.vision.encode(torch.from_numpy(observation[None].copy()).to(model.device))
    copied = copy.copy(model)
    copied.starts = StartStates(latent)
    return copied


def _checked_steps(steps: int) -> int:
    if steps < 1:
        raise ConfigurationError(f"steps must be at least 1, got {steps}")
    return steps


def _dream_frame(rollout: DreamRollout, size: int) -> Frames:
    if rollout.world_model.vision.is_image:
        return enlarge(rollout.pictures(), size)[0]
    return fit(draw_dreams(rollout)[0], size)


def _picture(observation: NDArray[Any], size: int) -> Frames:
    return enlarge(observation[None], size)[0] if observation.ndim == 3 else draw_bars(observation, size)
