"""Episodes of processes that are known exactly, as caches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dreamenv.data.episodes import EpisodeCache
from dreamenv.training.sequences import LatentEpisodes


def cache_of(
    observations: Sequence[np.ndarray],
    actions: Sequence[np.ndarray],
    rewards: Sequence[np.ndarray],
    *,
    terminated: Sequence[bool] | None = None,
    final_valid: Sequence[bool] | None = None,
) -> EpisodeCache:
    """A cache of episodes given one by one."""
    lengths = np.array([len(part) for part in rewards], np.int64)
    count = len(lengths)
    return EpisodeCache(
        observations=np.concatenate(observations),
        actions=np.concatenate(actions),
        rewards=np.concatenate(rewards).astype(np.float32),
        first=np.concatenate([[0], np.cumsum(lengths + 1)[:-1]]).astype(np.int64),
        lengths=lengths,
        terminated=np.array([False] * count if terminated is None else terminated),
        final_valid=np.array([True] * count if final_valid is None else final_valid),
    )


def counted(lengths: Sequence[int], **ends: Any) -> EpisodeCache:
    """Episode e at time t shows (100 e + t, -t), does 10 e + t and pays 1000 e + t."""
    times = [np.arange(n + 1.0, dtype=np.float32) for n in lengths]
    return cache_of(
        [np.stack([100 * e + time, -time], 1) for e, time in enumerate(times)],
        [10 * e + time[:-1].astype(np.int64) for e, time in enumerate(times)],
        [1000 * e + time[:-1] for e, time in enumerate(times)],
        **ends,
    )


def exact(cache: EpisodeCache, std: float = 0.0) -> LatentEpisodes:
    """The vector observations of `cache` as latents."""
    mean = np.asarray(cache.observations, np.float32)
    return LatentEpisodes(mean, np.full_like(mean, std))


def rotation(episodes: int = 24, steps: int = 40, *, noise: float = 0.02, seed: int = 0) -> EpisodeCache:
    """A damped rotation pushed by the action; the reward is the first coordinate, and it ends beyond 1.2."""
    rng = np.random.default_rng(seed)
    matrix = 0.98 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    observations, actions, rewards, terminated = [], [], [], []
    for _ in range(episodes):
        seen = [rng.normal(scale=0.5, size=2)]
        acts, pays, ended = [], [], False
        while len(acts) < steps and not ended:
            action = rng.uniform(-1, 1, size=1)
            acts.append(action)
            pays.append(seen[-1][0] + 0.5 * action[0])
            seen.append(matrix @ seen[-1] + np.array([0.0, 0.4]) * action + noise * rng.normal(size=2))
            ended = bool(seen[-1][0] > 1.2)
        observations.append(np.array(seen, np.float32))
        actions.append(np.array(acts, np.float32))
        rewards.append(np.array(pays, np.float32))
        terminated.append(ended)
    return cache_of(observations, actions, rewards, terminated=terminated)


def squares(episodes: int = 3, steps: int = 11, seed: int = 0) -> EpisodeCache:
    """Pictures of a bright square that walks; the last frame of the last episode is a mere repeat."""
    rng = np.random.default_rng(seed)
    observations = []
    for _ in range(episodes):
        frames = np.full((steps + 1, 64, 64, 3), 30, np.uint8)
        top, left = rng.integers(0, 40, 2)
        for t, frame in enumerate(frames):
            frame[top : top + 12, (left + 2 * t) % 50 : (left + 2 * t) % 50 + 12] = (240, 200, 40)
        observations.append(frames)
    return cache_of(
        observations,
        [rng.integers(0, 2, steps) for _ in range(episodes)],
        [np.ones(steps, np.float32)] * episodes,
        final_valid=[True] * (episodes - 1) + [False],
    )
