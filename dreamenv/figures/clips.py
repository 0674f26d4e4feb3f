"""Episodes of an agent as pictures, in the dream and in the real environment."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.agents.resolve import AnyAgent, resolve_agent
from dreamenv.bundle import StartStates
from dreamenv.data.recorder import EpisodeRecorder
from dreamenv.envs.dream_env import DreamEnv
from dreamenv.envs.render import draw_bars, draw_dreams, enlarge
from dreamenv.envs.rollout import DreamRollout
from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.figures.video import Frames, fit
from dreamenv.scoring.play import RealEpisodes, play
from dreamenv.types import Start
from dreamenv.world_model import WorldModel

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
    agent: AnyAgent,
    *,
    seed: int = 0,
    steps: int | None = None,
    first_observation: NDArray[Any] | None = None,
    temperature: float | None = None,
    start: Start = "initial",
    size: int = FRAME_SIZE,
) -> Clip:
    """One dreamed episode of an agent, decoded.

    Args:
        model: The world model.
        agent: An agent or its name, such as "random" for uniform actions; see `resolve_agent`.
        seed: Fixes start state, noise, and the actions of "random".
        steps: Most actions; None takes the model's time limit.
        first_observation: The dream starts at what V sees in this real observation; None: at a start state of kind
            `start`.
        temperature: None takes the model's own.
        start: "first", "initial" or "replay"; see `DreamEnv`.
        size: Side of a frame in pixels.

    Raises:
        SpaceMismatchError: The agent's spaces are not those of the model, or the first observation has another shape.
        ConfigurationError: A number out of range.
    """
    steps = _checked_steps(model.max_episode_steps if steps is None else min(steps, model.max_episode_steps))
    player = resolve_agent(agent, model)
    if first_observation is not None:
        model, start = model.with_starts(StartStates(model.encode(first_observation[None]))), "initial"
    env = DreamEnv(model, observation=player.observation, temperature=temperature, start=start)
    moments = play(env, player.of_episode(seed), seed=seed, steps=steps)
    moment = next(moments)
    frames, rewards = [_dream_frame(env.rollout, size)], []
    for moment in moments:
        rewards.append(float(moment.reward))
        frames.append(_dream_frame(env.rollout, size))
    truncated = not moment.terminated and len(rewards) == model.max_episode_steps
    return Clip(np.stack(frames), np.array(rewards), moment.terminated, truncated)


def record_real(
    model: WorldModel,
    agent: AnyAgent,
    *,
    seed: int = 0,
    steps: int | None = None,
    view: str = "seen",
    size: int = FRAME_SIZE,
) -> Clip:
    """One real episode of an agent that sees through V and M, as in the latent twin.

    Args:
        model: The world model.
        agent: An agent or its name, such as "random" for uniform actions; see `resolve_agent`.
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
    player = resolve_agent(agent, model)
    with closing(RealEpisodes(model, player, render_mode="rgb_array" if rendered else None)) as real:
        recorder = EpisodeRecorder(real.env)

        def frame() -> Frames:
            return fit(np.asarray(real.env.render()), size) if rendered else _picture(recorder.observations[-1], size)

        moments = real.play(seed, steps=limit, recorder=recorder)
        moment = next(moments)
        first = recorder.observations[-1]
        frames, rewards = [frame()], []
        for moment in moments:
            rewards.append(float(moment.reward))
            # A blank last frame would end the picture in a flash
            frames.append(frame() if moment.info["observation_valid"] else frames[-1])
    return Clip(np.stack(frames), np.array(rewards), moment.terminated, moment.truncated, first)


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
