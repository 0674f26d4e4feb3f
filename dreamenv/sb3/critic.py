"""Whether a critic promises more than rewards allow: how learning from dreams goes wrong."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.errors import ConfigurationError, NonFiniteError, missing_extra

try:
    from stable_baselines3.common.callbacks import BaseCallback
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error

_ROWS = 256
# What the critic may exceed the sum of the largest rewards by: it is fitted, and the largest reward may still come
_SLACK = 2.0
# Under which name an algorithm has its critic; the last is that of SBX
_CRITICS = ("critic", "q_net", "quantile_net", "qf")


def check_gamma(gamma: float) -> None:
    """Refuse a discount with which values grow without end.

    Raises:
        ConfigurationError: γ outside [0, 1].
    """
    if not 0 <= gamma <= 1:
        raise ConfigurationError(f"gamma must be in [0, 1], got {gamma}")


class CriticCallback(BaseCallback):
    """Compares what the critic says of real transitions with what rewards allow, and tells when it is beyond.

    A return is at most R / (1 - γ) in size, where R is the largest size of a reward seen in reality; with γ = 1 there
    is no such limit, since an episode that is cut counts as one that goes on. An algorithm that
    is paid for entropy (SAC) has α·A·2 more for each step, α being the weight and A the number of action dimensions. A
    critic whose mean absolute value is more than twice that has diverged. A warning says so once; the log has it as
    `critic/value` and `critic/limit`.

    Args:
        every: Real steps between looks.

    Attributes:
        value: Mean absolute value at the last look; None before the first one.
        limit: What was allowed then.
        diverged_at: Real steps at which the critic was first beyond the limit; None where it never was.

    Raises:
        ConfigurationError: `every` below 1, or, when training begins, an algorithm without critic or replay buffer, one
            whose observations are a Dict, or a γ outside [0, 1].
        NonFiniteError: Critic or policy is NaN or infinite.
    """

    def __init__(self, *, every: int = 250) -> None:
        super().__init__()
        if every < 1:
            raise ConfigurationError(f"every must be at least 1, got {every}")
        self._every, self._next = every, 0
        self.value: float | None = None
        self.limit = math.inf
        self.diverged_at: int | None = None

    def _on_training_start(self) -> None:
        model: Any = self.model
        if getattr(model, "replay_buffer", None) is None or not any(hasattr(model, name) for name in _CRITICS):
            raise ConfigurationError(
                f"{type(model).__name__} has no critic and replay buffer to look at; take sac, td3, ddpg, tqc, dqn, "
                "qrdqn or sbx_sac"
            )
        if isinstance(model.observation_space, spaces.Dict):
            raise ConfigurationError(
                "the critic of Dict observations cannot be looked at; gymnasium.wrappers.FlattenObservation makes "
                "vectors of them"
            )
        check_gamma(float(model.gamma))
        self._next = self.num_timesteps + self._every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # Updates come before this, and what is NaN would make the next action's distribution fail without a word of why
        self.check_policy()

    def _on_rollout_end(self) -> None:
        if self.num_timesteps >= self._next:
            self._next = self.num_timesteps + self._every
            self.look()

    def look(self) -> None:
        """Compare now.

        Raises:
            NonFiniteError: The critic is NaN or infinite.
        """
        model: Any = self.model
        size = model.replay_buffer.size()
        if size == 0:
            return
        rows = np.linspace(0, size - 1, min(size, _ROWS)).astype(np.int64)
        self.value = float(np.abs(self._values(rows)).mean())
        buffer, scaling = model.replay_buffer, model.get_vec_normalize_env()
        largest = float(np.abs(buffer._normalize_reward(buffer.rewards[:size], scaling)).max()) + self._entropy()
        # Where nothing has been paid yet, rewards say nothing of how large values may be
        gamma = float(model.gamma)
        self.limit = _SLACK * largest / (1 - gamma) if largest > 0 and gamma < 1 else math.inf
        self.logger.record("critic/value", self.value)
        self.logger.record("critic/limit", self.limit)
        self._check(math.isfinite(self.value), "critic")
        if self.value > self.limit and self.diverged_at is None:
            self.diverged_at = self.num_timesteps
            warnings.warn(
                f"the critic diverges: after {self.num_timesteps} real steps it says {self.value:.3g} on average, and "
                f"the rewards allow {self.limit:.3g} at most. Take fewer updates a real step, shorter branches, a "
                "larger share of real transitions or a smaller learning rate.",
                RuntimeWarning,
                stacklevel=2,
            )

    def check_policy(self) -> None:
        """See that the weights of policy and critic are numbers.

        Raises:
            NonFiniteError: They are not.
        """
        self._check(all(bool(part.isfinite().all()) for part in self.model.policy.parameters()), "policy")

    def _check(self, finite: bool, part: str) -> None:
        if not finite:
            raise NonFiniteError(
                f"the {part} is not finite after {self.num_timesteps} real steps. Take fewer updates a real step, "
                "shorter branches or a smaller learning rate."
            )

    @torch.no_grad()
    def _values(self, rows: Any) -> NDArray[Any]:
        model: Any = self.model
        buffer = model.replay_buffer
        # As the critic learns from them, by `VecNormalize` where there is one
        observations = buffer._normalize_obs(buffer.observations[rows, 0], model.get_vec_normalize_env())
        if hasattr(model, "qf"):  # of SBX, in JAX
            critic, draws = model.policy.qf_state, {"dropout": model.key}
            seen = observations.astype(np.float32)
            return np.asarray(critic.apply_fn(critic.params, seen, buffer.actions[rows, 0], rngs=draws))
        seen, _ = model.policy.obs_to_tensor(observations)
        if hasattr(model, "q_net") or hasattr(model, "quantile_net"):
            # Of the latter `[B, quantiles, n]`, whose mean is the value
            found: Tensor = model.q_net(seen) if hasattr(model, "q_net") else model.quantile_net(seen).mean(1)
            return found.amax(1).numpy(force=True)
        actions = torch.as_tensor(buffer.actions[rows, 0], dtype=torch.float32, device=model.device)
        said = model.critic(seen, actions)
        parts: list[Tensor] = [part.flatten(1) for part in (said if isinstance(said, tuple) else (said,))]
        return torch.cat(parts, dim=1).numpy(force=True)

    def _entropy(self) -> float:
        model: Any = self.model
        if hasattr(model, "ent_coef_state"):  # of SBX
            weight = model.ent_coef_state
            alpha = float(weight.apply_fn({"params": weight.params}))
        elif getattr(model, "log_ent_coef", None) is not None:
            alpha = float(model.log_ent_coef.detach().exp())
        else:
            alpha = float(getattr(model, "ent_coef_tensor", 0.0))
        return alpha * 2 * math.prod(model.action_space.shape or (1,))
