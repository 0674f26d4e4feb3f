"""What an environment is, before anything is collected: its spaces, its limit, its rewards in a short random run."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np

from dreamenv.data.explore import Exploration, default_exploration, uniform_action
from dreamenv.data.preprocess import PreprocessedEnv, make_raw_env
from dreamenv.errors import ConfigurationError, NonFiniteError
from dreamenv.types import RealEnvSpec, episode_seeds


@dataclass(frozen=True)
class Survey:
    """What `survey` found.

    Attributes:
        spec: The real environment; of a Dict that holds a picture and names no entry, the first picture is chosen.
        observation_space, action_space: Its own spaces, in words.
        keys: The entries of a Dict observation.
        limit: Its own time limit in real frames; None where it has none.
        preparation: What is made of observations and actions, in words.
        refused: Why it cannot be taken as it is; empty where it can.
        is_image: Whether V will have pictures.
        latents: Numbers of a vector observation; 0 for pictures.
        explore: What to explore it with.
        frames: Real frames of the random run.
        rewards: Least and largest reward of a frame in it.
        lengths: Real frames of each episode that came to its end in it.
        returns: Their returns.
        frames_per_second: Of the random run, in this process.
    """

    spec: RealEnvSpec
    observation_space: str
    action_space: str
    keys: tuple[str, ...] = ()
    limit: int | None = None
    preparation: tuple[str, ...] = ()
    refused: str = ""
    is_image: bool = False
    latents: int = 0
    explore: list[Exploration] = field(default_factory=list)
    frames: int = 0
    rewards: tuple[float, float] = (0.0, 0.0)
    lengths: tuple[int, ...] = ()
    returns: tuple[float, ...] = ()
    frames_per_second: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self) | {"spec": self.spec.to_json()}))
        return content

    @property
    def lines(self) -> list[str]:
        """All of it for people, a line each."""
        found = [f"observations: {self.observation_space}", f"actions: {self.action_space}"]
        found += [f"prepared: {step}" for step in self.preparation]
        found.append(f"time limit: {'none' if self.limit is None else f'{self.limit} real frames'}")
        if self.refused:
            return [*found, f"it cannot be taken as it is: {self.refused}"]
        low, high = self.rewards
        found.append(f"{self.frames} random frames: rewards from {low:g} to {high:g}")
        if self.lengths:
            found.append(
                f"{len(self.lengths)} episodes of {min(self.lengths)} to {max(self.lengths)} frames, "
                f"mean return {np.mean(self.returns):.1f}"
            )
        else:
            found.append("no episode came to its end")
        if self.frames_per_second:
            found.append(f"{self.frames_per_second:,.0f} frames a second in one process")
        return found


def survey(spec: RealEnvSpec, *, steps: int = 1000, seed: int = 0) -> Survey:
    """Look at the environment of `spec` and play `steps` random actions.

    Raises:
        MissingExtraError, UnknownDreamError, ConfigurationError: As `make_real_env`; an environment whose spaces cannot
            be prepared is no error, the reason is in the result. One that raises while it is played is.
        NonFiniteError: It pays rewards that are not finite.
    """
    env = make_raw_env(spec)
    try:
        limit = env.spec.max_episode_steps if env.spec is not None else None
        known: dict[str, Any] = {"observation_space": _shown(env.observation_space), "limit": limit}
        known["action_space"] = _shown(env.action_space)
        if isinstance(env.observation_space, gym.spaces.Dict):
            known["keys"] = tuple(env.observation_space.spaces)
        try:
            prepared, spec = _prepared(env, spec)
        except ConfigurationError as error:
            return Survey(spec, refused=str(error), **known)
        known["preparation"], known["is_image"] = prepared.preparation, prepared.is_image
        known["latents"] = 0 if prepared.is_image else int(np.prod(prepared.observation_space.shape or ()))
        known["explore"] = default_exploration(prepared.action_space)
        try:
            played = _played(prepared, steps, seed)
        except Exception as error:  # whatever a foreign environment raises
            raise ConfigurationError(
                f"{spec.id} cannot be played: {type(error).__name__}: {error}. Correct the environment"
            ) from error
        if not np.isfinite(played["rewards"]).all():
            raise NonFiniteError(f"{spec.id} pays rewards that are not finite. Correct the environment")
        return Survey(spec, **known, **played)
    finally:
        env.close()


def _prepared(env: gym.Env[Any, Any], spec: RealEnvSpec) -> tuple[PreprocessedEnv, RealEnvSpec]:
    """`env` as `spec` has it, or where that does not do for a Dict, by the first entry that is a picture."""
    try:
        return PreprocessedEnv(env, spec), spec
    except ConfigurationError:
        if spec.observation_key is None and isinstance(env.observation_space, gym.spaces.Dict):
            for key in env.observation_space.spaces:
                chosen = replace(spec, observation_key=key)
                with suppress(ConfigurationError):
                    prepared = PreprocessedEnv(env, chosen)
                    if prepared.is_image:
                        return prepared, chosen
        raise


def _shown(space: gym.Space[Any]) -> str:
    """A space on one line, without long lists of bounds."""
    text = " ".join(str(space).split())
    return text if len(text) <= 160 else f"{text[:157]}..."


def _played(env: PreprocessedEnv, steps: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    seeds = iter(episode_seeds("collect", 4999, 100_000))
    rewards: list[float] = []
    lengths, returns = [], []
    frames = length = 0
    total = 0.0
    if steps:
        env.reset(seed=next(seeds))
    began = time.perf_counter()
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(uniform_action(env.action_space, rng))
        rewards.append(float(reward))
        total, length, frames = total + float(reward), length + info["real_frames"], frames + info["real_frames"]
        if terminated or truncated:
            lengths.append(length)
            returns.append(total)
            total, length = 0.0, 0
            env.reset(seed=next(seeds))
    seconds = time.perf_counter() - began
    return {
        "frames": frames,
        "rewards": (min(rewards, default=0.0), max(rewards, default=0.0)),
        "lengths": tuple(lengths),
        "returns": tuple(returns),
        "frames_per_second": frames / seconds if frames else 0.0,
    }
