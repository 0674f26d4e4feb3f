"""The worlds a player can be in: the dream, and the real environment seen through the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.data.preprocess import PreprocessedEnv
from dreamenv.envs.latent_observation import LatentObservation
from dreamenv.envs.rollout import DreamRollout
from dreamenv.play.opening import Opening
from dreamenv.play.real_env_process import RealEnvProcess
from dreamenv.types import episode_seeds

TERMINATED, TRUNCATED = "terminated", "truncated"
_ROW = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Standing:
    """How a race between dream and real environment stands (see `race`).

    Attributes:
        real_return: Rewards of the real environment since the race began.
        dream_ended, real_ended: "" while it goes on, else "terminated" or "truncated".
        drift: How far the dream's latent is from the real one, at least 0; 1 is the distance of unrelated moments.
    """

    real_return: float = 0.0
    dream_ended: str = ""
    real_ended: str = ""
    drift: float = 0.0


@dataclass(frozen=True)
class Moment:
    """What there is to see and to say of one moment.

    Attributes:
        latent: `[Z]` float32, what V decodes.
        frame: The real observation that V was given, None in the dream.
        step: Actions since the episode began.
        undiscounted_return: Rewards so far, in units of the real environment; the dream's are predicted.
        reward: Reward of the last action.
        predicted_reward: What M said of it; in the dream the same number.
        termination_probability: M's probability that the last action ended the task, in [0, 1].
        ended: "" while the episode goes on, else "terminated" or "truncated".
        race: Of a race alone; latent, return, reward and probability are then those of its dream.
    """

    latent: NDArray[np.float32]
    frame: NDArray[Any] | None = None
    step: int = 0
    undiscounted_return: float = 0.0
    reward: float = 0.0
    predicted_reward: float = 0.0
    termination_probability: float = 0.0
    ended: str = ""
    race: Standing | None = None


class World(Protocol):
    """Where a player is; one episode at a time."""

    def reset(self) -> Moment:
        """Begin an episode."""

    def step(self, actions: NDArray[Any]) -> Moment:
        """Take an action for each row of `seen`."""

    @property
    def state(self) -> Any:
        """M's state at this moment, of batch 1: what one may dream on from."""

    @property
    def seen(self) -> Any:
        """The memory states by which the driver acts, of batch 1 or more."""

    def close(self) -> None:
        """Free what the world holds."""


class DreamWorld:
    """A dream of batch 1.

    Args:
        opening: The dream.
        generator: Draws start states and the keys of the dream's noise.
        temperature: Above 0; `temperature` may be changed at any time.
    """

    def __init__(self, opening: Opening, generator: np.random.Generator, temperature: float) -> None:
        self._model = opening.model
        self._limit = opening.max_episode_steps
        self._generator = generator
        self._rollout = DreamRollout(
            opening.model, 1, observation="state", temperature=temperature, start=opening.start
        )

    @property
    def temperature(self) -> float:
        """Spread of M's mixtures."""
        return self._rollout.temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._rollout.temperature = value

    @property
    def state(self) -> Any:
        return self._model.memory_state(torch.from_numpy(self._rollout.observations()).to(self._model.device))

    seen = state

    def reset(self) -> Moment:
        self._rollout.reset(_ROW, [self._generator])
        return Moment(self._rollout.latents()[0])

    def step(self, actions: NDArray[Any]) -> Moment:
        """Dream one action, `[1]` or `[1, A]`.

        Raises:
            NonFiniteError: The dream became NaN or infinite; it has to be reset.
        """
        result = self._rollout.step(actions)
        reward = float(result.reward[0])
        step = int(self._rollout.elapsed[0])
        return Moment(
            latent=self._rollout.latents()[0],
            step=step,
            undiscounted_return=float(self._rollout.returns[0]),
            reward=reward,
            predicted_reward=reward,
            termination_probability=float(result.termination_probability[0]),
            ended=TERMINATED if result.terminated[0] else TRUNCATED if step >= self._limit else "",
        )

    def dream_on(self, state: Any) -> Moment:
        """Begin an episode at the memory state `state` of batch 1, wherever it comes from."""
        self._rollout.set_state(snapshot(state, self._generator))
        return Moment(self._rollout.latents()[0])

    def close(self) -> None:
        pass


class RealWorld:
    """The latent twin: the real environment in a process of its own, with M remembering what V sees.

    Args:
        opening: The dream whose real environment it is.
        generator: Draws seeds of episodes, from those set aside for validation: nobody is scored on them.
        on_close: Called once, when the game has ended.

    Attributes:
        moment: The present moment, once there was a reset.

    Raises:
        MissingExtraError, UnknownDreamError, ConfigurationError, CollectionError: The real environment cannot be made.
    """

    moment: Moment

    def __init__(
        self, opening: Opening, generator: np.random.Generator, *, on_close: Callable[[], None] | None = None
    ) -> None:
        spec = opening.model.real
        self._model = opening.model
        self._on_close = on_close
        self._generator = generator
        self._process = RealEnvProcess(spec)
        self._seen = PreprocessedEnv(self._process, spec)
        self._env = LatentObservation(self._seen, self._model, observation="state")
        self._observation: NDArray[Any] = np.empty(0)
        self._total, self._step = 0.0, 0

    @property
    def pid(self) -> int | None:
        """Id of the game's process."""
        return self._process.pid

    @property
    def state(self) -> Any:
        return self._model.memory_state(torch.from_numpy(self._observation[None]).to(self._model.device))

    seen = state

    def reset(self) -> Moment:
        """Begin a real episode.

        Raises:
            CollectionError: The game died or does not answer.
        """
        seed = episode_seeds("validation", int(self._generator.integers(5000)), 1)[0]
        self._observation, _ = self._env.reset(seed=seed)
        self._total, self._step = 0.0, 0
        self.moment = Moment(self._latent(), self._seen.last_observation.copy())
        return self.moment

    def step(self, actions: NDArray[Any]) -> Moment:
        """Take one action, `[1]` or `[1, A]`, in the real environment; errors as `reset`."""
        self._observation, reward, terminated, truncated, info = self._env.step(actions[0])
        self._total += reward
        self._step += 1
        self.moment = Moment(
            latent=self._latent(),
            frame=self._seen.last_observation.copy(),
            step=self._step,
            undiscounted_return=self._total,
            reward=reward,
            predicted_reward=info["predicted_reward"],
            termination_probability=info["termination_probability"],
            ended=TERMINATED if terminated else TRUNCATED if truncated else "",
        )
        return self.moment

    def close(self) -> None:
        self._env.close()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _latent(self) -> NDArray[np.float32]:
        latent = self._model.memory.latent(self.state)[0]
        return latent.float().cpu().numpy()


def snapshot(state: Any, generator: np.random.Generator) -> dict[str, Any]:
    """A snapshot for `DreamRollout.set_state`: dreams that begin at the rows of a memory state, each with noise of its
    own."""
    rows = len(state[0])
    return {
        "memory": state._asdict(),
        "noise_keys": generator.integers(2**63, size=rows).astype(np.uint64),
        "elapsed": np.zeros(rows, np.int64),
        "returns": np.zeros(rows),
        "last_reward": np.zeros(rows),
    }
