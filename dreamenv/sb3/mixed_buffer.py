"""A replay buffer of real transitions and dreamed branches, mixed at a given share."""

from __future__ import annotations

from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError, NonFiniteError, SpaceMismatchError, missing_extra
from dreamenv.sb3.branches import Branches, join
from dreamenv.sb3.followed_states import FollowedStates
from dreamenv.training.transitions import Transitions
from dreamenv.world_model import WorldModel

try:
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import VecNormalize
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error


# The arrays of real transitions
_KEPT = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class MixedReplayBuffer(ReplayBuffer):
    """Real transitions as in `ReplayBuffer`, and beside them the freshest dreamed branches; a batch holds
    `round(real_fraction * batch_size)` real ones and dreamed ones for the rest (Janner et al. 2019, algorithm 2).

    Give it to an off-policy algorithm as `replay_buffer_class`, and a `MixingCallback` to `learn`: the callback fits
    the model and fills in the branches. Until there are branches, batches are all real.

    Args:
        buffer_size, observation_space, action_space, device, n_envs, optimize_memory_usage, handle_timeout_termination:
            As for `ReplayBuffer`; `optimize_memory_usage` must be False.
        real_fraction: Share of real transitions in a batch, in [0, 1].
        retain: How many refills of branches are held; the oldest goes when another comes.
        seed: Of sampling; None takes one from numpy's global generator, which the algorithm's `seed` fixes.

    Raises:
        ConfigurationError: A fraction outside [0, 1], `retain` below 1, or `optimize_memory_usage`.
        SpaceMismatchError: Observations that are not a Box of one dimension.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        real_fraction: float = 0.05,
        retain: int = 1,
        seed: int | None = None,
    ) -> None:
        if not 0 <= real_fraction <= 1:
            raise ConfigurationError(f"real_fraction must be in [0, 1], got {real_fraction}")
        if retain < 1:
            raise ConfigurationError(f"retain must be at least 1, got {retain}")
        if optimize_memory_usage:
            raise ConfigurationError("a mixed buffer needs every next observation; leave optimize_memory_usage out")
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
            raise SpaceMismatchError(
                f"observations of the environment: {observation_space}; a mixed buffer takes a Box of one dimension. "
                "For pictures, learn on LatentObservation's features."
            )
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            handle_timeout_termination=handle_timeout_termination,
        )
        self.real_fraction = real_fraction
        self._refills: deque[Branches] = deque(maxlen=retain)
        self._dreamed: Branches | None = None
        if seed is None:
            seed = int(np.random.randint(2**31))  # noqa: NPY002  (what the algorithm's own seed fixes)
        self.rng = np.random.default_rng(seed)
        self._time_limit = np.zeros((self.buffer_size, self.n_envs), np.bool_)
        self._model: WorldModel | None = None
        self._kind = "features"
        self._followed: FollowedStates | None = None

    @property
    def real_size(self) -> int:
        """Real transitions held."""
        return self.size() * self.n_envs

    @property
    def dream_size(self) -> int:
        """Dreamed transitions held."""
        return 0 if self._dreamed is None else len(self._dreamed)

    def attach(self, model: WorldModel) -> str:
        """Dream with `model`: from now on its memory follows the real steps, so that branches can begin at them.

        Returns:
            What the environment's observations are to the model: "features" or "latent".

        Raises:
            SpaceMismatchError: They are neither, or the actions differ.
            ConfigurationError: They do not hold the embedding that the memory takes (`MemoryModel.embedding_of`).
        """
        if self.action_space != model.action_space:
            raise SpaceMismatchError(
                f"actions of the environment: {self.action_space}; of the world model: {model.action_space}"
            )
        sizes = {"features": model.memory.feature_size, "latent": model.memory.latent_size}
        kinds = [kind for kind, size in sizes.items() if self.obs_shape == (size,)]
        if not kinds:
            raise SpaceMismatchError(
                f"observations of the environment: {self.observation_space}; of the world model: "
                f"{sizes['features']} features or {sizes['latent']} latents"
            )
        memory, kind = model.memory, kinds[0]
        if memory.embedding_of(torch.zeros(1, sizes[kind], device=model.device), kind) is None:
            raise ConfigurationError(
                f"the {kind} of {type(memory).__name__} do not hold what it was shown, so that its states cannot be "
                "followed along real steps; take a memory whose embedding_of gives it"
            )
        if self._model is None or self._model.memory is not memory:
            noise = torch.Generator(model.device).manual_seed(int(self.rng.integers(2**31)))
            # The features of a Markov memory say all: its states need not be kept
            self._followed = None if memory.markov else FollowedStates(memory, self.buffer_size, self.n_envs, noise)
        self._model, self._kind = model, kind
        return kind

    def add(
        self,
        obs: NDArray[Any],
        next_obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        done: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> None:
        """Add a real transition of each environment, as `ReplayBuffer.add`.

        Raises:
            NonFiniteError: A reward or an observation is NaN or infinite.
        """
        at = self.pos
        for what, given in (("reward", reward), ("observation", next_obs)):
            if not np.isfinite(given).all():
                raise NonFiniteError(
                    f"{what} {np.asarray(given).tolist()} in the real step behind {self.size()} others"
                )
        super().add(obs, next_obs, action, reward, done, infos)
        self._time_limit[at] = [bool(info.get("TimeLimit.truncated", False)) for info in infos]
        if self._followed is not None:
            before, after = (self._embeddings(part[at]) for part in (self.observations, self.next_observations))
            actions = torch.from_numpy(self._env_actions(self.actions[at])).to(before.device)
            self._followed.add(at, before, actions, after, self.dones[at] > 0)

    def refill(self, branches: Branches) -> None:
        """Hold `branches`, and let go of those of `retain` refills ago."""
        self._refills.append(branches)
        self._dreamed = join(list(self._refills))

    def real_transitions(self) -> Transitions:
        """All real transitions in the order in which they are stored; ends by a time limit are no terminations."""
        rows = self.size()
        embeddings, following = (
            self._embeddings(part[:rows]).flatten(0, 1).cpu().numpy()
            for part in (self.observations, self.next_observations)
        )
        return Transitions(
            embeddings,
            self._env_actions(self.actions[:rows].reshape(self.real_size, self.action_dim)),
            following,
            self.rewards[:rows].reshape(-1),
            ((self.dones[:rows] > 0) & ~self._time_limit[:rows]).reshape(-1),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The real transitions, for `load_tensors`; dreamed ones are not kept, they are dreamed anew."""
        rows = self.size()
        found = {name: torch.from_numpy(getattr(self, name)[:rows].copy()) for name in _KEPT}
        return found | {"position": torch.tensor(self.pos), "limits": torch.from_numpy(self._time_limit[:rows].copy())}

    def load_tensors(self, kept: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, for a buffer of the same size whose model remembers nothing.

        Raises:
            ConfigurationError: More transitions than there is room for, or of another shape.
        """
        rows = len(kept["rewards"])
        for name in _KEPT:
            own = getattr(self, name)
            if rows > self.buffer_size or own.shape[1:] != tuple(kept[name].shape[1:]):
                raise ConfigurationError(
                    f"got {name} of shape {tuple(kept[name].shape)}, expected up to {self.buffer_size} of "
                    f"{own.shape[1:]}"
                )
            own[:rows] = kept[name].numpy()
        self._time_limit[:rows] = kept["limits"].numpy()
        self.pos = int(kept["position"])
        self.full = rows == self.buffer_size

    def start_states(self, count: int, noise: torch.Generator) -> Any:
        """Memory states of `count` real moments, drawn uniformly with replacement: those at which an action was taken.

        Raises:
            ConfigurationError: No model is attached, or there are no moments yet.
        """
        if self._model is None:
            raise ConfigurationError("no model to dream with; attach(world_model) first")
        memory = self._model.memory
        if self._followed is None:
            rows, columns = np.divmod(np.arange(self.real_size), self.n_envs)
        else:
            rows, columns = self._followed.places()
        if len(rows) == 0:
            raise ConfigurationError("got no real transitions to branch from, expected at least 1; learn longer first")
        drawn = self.rng.integers(len(rows), size=count)
        rows, columns = rows[drawn], columns[drawn]
        if self._followed is None:
            return memory.initial(self._embeddings(self.observations[rows, columns]), noise=noise)
        return memory.branch(self._followed.at(rows, columns), 1, noise=noise)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """A batch of real transitions first, then dreamed ones.

        Raises:
            ConfigurationError: There are no transitions of a kind that the batch needs.
        """
        real = round(self.real_fraction * batch_size) if self.dream_size else batch_size
        if real and not self.real_size:
            raise ConfigurationError(f"got no real transitions, expected some for {real} of {batch_size} samples")
        place = self.rng.integers(max(self.real_size, 1), size=real)
        rows, columns = np.divmod(place, self.n_envs)
        ends = self.dones[rows, columns] * (1 - self.timeouts[rows, columns])
        parts = [
            Branches(
                self.observations[rows, columns],
                self.actions[rows, columns],
                self.rewards[rows, columns],
                self.next_observations[rows, columns],
                ends,
            )
        ]
        if real < batch_size and self._dreamed is not None:
            index = self.rng.integers(len(self._dreamed), size=batch_size - real)
            parts.append(Branches(*(values[index] for values in vars(self._dreamed).values())))
        batch = join(parts)
        return ReplayBufferSamples(
            self.to_torch(np.asarray(self._normalize_obs(batch.observations, env))),
            self.to_torch(batch.actions),
            self.to_torch(np.asarray(self._normalize_obs(batch.next_observations, env))),
            self.to_torch(batch.terminated.reshape(-1, 1)),
            self.to_torch(self._normalize_reward(batch.rewards.reshape(-1, 1), env)),
        )

    def _embeddings(self, observations: NDArray[Any]) -> Tensor:
        """Of observations `[..., D]` of the environment; without a model, these themselves."""
        seen = torch.from_numpy(observations.astype(np.float32))
        if self._model is None:
            return seen
        found = self._model.memory.embedding_of(seen.to(self._model.device), self._kind)
        assert found is not None, "attach has seen to it"
        return found

    def _env_actions(self, stored: NDArray[Any]) -> NDArray[Any]:
        if isinstance(self.action_space, spaces.Discrete):
            return stored.reshape(-1).astype(np.int64)
        low, high = self.action_space.low, self.action_space.high  # type: ignore[attr-defined]
        return (low + 0.5 * (stored + 1.0) * (high - low)).astype(np.float32)
