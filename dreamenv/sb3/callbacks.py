"""What a model earns in the dream and in reality, side by side, while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.agents.base import Agent, check_spaces
from dreamenv.agents.evolution_state import ValidationScore
from dreamenv.errors import ConfigurationError, missing_extra
from dreamenv.sb3.models import as_zip, write_provenance

try:
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as _error:
    raise missing_extra("stable-baselines3", "sb3") from _error


@dataclass(frozen=True)
class Comparison:
    """One evaluation. Returns are undiscounted, over whole episodes, in units of the real environment.

    Attributes:
        steps: Actions the model had been trained on.
        dream_returns: Return of each dream.
        real: Score of the real validation episodes.
    """

    steps: int
    dream_returns: tuple[float, ...]
    real: ValidationScore

    @property
    def dream_mean(self) -> float:
        """Mean return in the dream."""
        return float(np.mean(self.dream_returns))


class RealFramesCallback(BaseCallback):
    """Adds the real frames of training to the model's `provenance`, which is saved with it: none in a dream.

    On a real twin they are what each step's info calls `real_frames`. `dreamenv eval` reports them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._uncounted = 0

    def _on_training_start(self) -> None:
        add_real_frames(self.model, 0)

    def _on_step(self) -> bool:
        self._uncounted += sum(info.get("real_frames", 0) for info in self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        add_real_frames(self.model, self._uncounted)
        self._uncounted = 0

    def _on_training_end(self) -> None:
        # A rollout that another callback has cut short has no end
        self._on_rollout_end()


def add_real_frames(model: Any, frames: int) -> None:
    """Enter `frames` more real frames in a model's `provenance`."""
    known: dict[str, Any] = getattr(model, "provenance", {})
    model.provenance = {**known, "real_frames": known.get("real_frames", 0) + frames}


class DreamRealCallback(BaseCallback):
    """Scores the deterministic policy in the dream and in reality at intervals, and keeps the best by reality.

    Each evaluation logs `return/dream`, `return/dream_std`, `return/real`, `return/real_std` and `real_frames`, which
    TensorBoard shows beside each other. All evaluations play the same dreams and the same real episodes, and training
    goes on as if there were none. The real frames they consume are added to the model's `provenance`, which is saved
    with it and which `dreamenv eval` reports.

        validate = dreamenv.scoring.Validator("DreamDoom-v0", episodes=20)
        callback = DreamRealCallback(DreamVecEnv("DreamDoom-v0", num_envs=20), validate, every=100_000)
        model.learn(1_000_000, callback=callback)

    Args:
        dreams: Dreams to be scored in, one episode in each; not the environment of training.
        validate: Scores an agent on real episodes that evaluation never uses (`dreamenv.scoring.Validator`).
        every: Least actions of training between evaluations, which come when a rollout begins, and at the end.
        best: File for the model with the best real score; None keeps none.
        seed: Dream i of an evaluation is that of seed `seed + i`.
        progress: Called after each evaluation.

    Attributes:
        history: The evaluations so far.
        real_frames: Real frames of their validation.

    Raises:
        ConfigurationError: `every` below 1; or, when training begins, observations normalised by VecNormalize, whose
            statistics are no part of a saved model.
        SpaceMismatchError: When training begins, a model whose spaces are not those of `dreams`.
    """

    def __init__(
        self,
        dreams: VecEnv,
        validate: Callable[[Agent], ValidationScore],
        *,
        every: int,
        best: str | Path | None = None,
        seed: int = 0,
        progress: Callable[[Comparison], None] | None = None,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ConfigurationError(f"every must be at least 1, got {every}")
        self.history: list[Comparison] = []
        self.real_frames = 0
        self._dreams, self._validate = dreams, validate
        self._every, self._seed, self._progress = every, seed, progress
        self._best = None if best is None else as_zip(best)
        self._last = 0

    @property
    def best(self) -> Comparison | None:
        """The evaluation with the highest real mean, the earliest of equals."""
        return max(self.history, key=lambda found: found.real.mean, default=None)

    def _on_training_start(self) -> None:
        check_spaces(self.model, self._dreams.observation_space, self._dreams.action_space, "the dream to be scored in")
        normalised = self.model.get_vec_normalize_env()
        if normalised is not None and normalised.norm_obs:
            raise ConfigurationError(
                "the model reads observations normalised by VecNormalize, the real twin shows them as they are; "
                "use VecNormalize(env, norm_obs=False)"
            )
        self._last = self.model.num_timesteps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # The model has been trained on all steps so far; in the middle of a rollout it has not
        if self.model.num_timesteps - self._last >= self._every:
            self._evaluate()

    def _on_training_end(self) -> None:
        if self.model.num_timesteps > self._last:
            self._evaluate()

    def _evaluate(self) -> None:
        self._last = self.model.num_timesteps
        self._dreams.seed(self._seed)
        returns, _ = evaluate_policy(
            self.model,
            self._dreams,
            n_eval_episodes=self._dreams.num_envs,
            return_episode_rewards=True,
            warn=False,
        )
        real = self._validate(self.model)
        found = Comparison(self._last, tuple(np.asarray(returns).tolist()), real)
        self.history.append(found)
        self.real_frames += real.real_frames
        add_real_frames(self.model, real.real_frames)
        self._keep(found)
        for name, values in (("dream", found.dream_returns), ("real", real.returns)):
            self.logger.record(f"return/{name}", float(np.mean(values)))
            self.logger.record(f"return/{name}_std", float(np.std(values)))
        self.logger.record("real_frames", self.real_frames)
        self.logger.dump(self._last)
        if self._progress is not None:
            self._progress(found)

    def _keep(self, found: Comparison) -> None:
        if self._best is None:
            return
        model: Any = self.model
        if found is self.best:
            model.save(self._best)
        else:
            # Frames that went into choosing another model count for the chosen one too
            write_provenance(self._best, model.provenance)
