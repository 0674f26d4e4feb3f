"""The real return of an agent: mean, spread and a bootstrap interval over real episodes it has never met."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.agents.base import Agent
from dreamenv.agents.evolution_state import ValidationScore
from dreamenv.agents.resolve import AnyAgent, ResolvedAgent, resolve_agent
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError, NonFiniteError, did_you_mean
from dreamenv.options import plain_values
from dreamenv.scoring.play import RealEpisodes, in_lots, play_episodes
from dreamenv.types import RealEnvSpec, Wrapper, consumed_frames, episode_seeds
from dreamenv.workers import AnyWorkers
from dreamenv.world_model import WorldModel

__all__ = ["EpisodeResult", "Score", "Validator", "bootstrap_interval", "evaluate", "returns_summary"]


@dataclass(frozen=True)
class EpisodeResult:
    """One real episode.

    Attributes:
        seed: Seed of its reset.
        undiscounted_return: Sum of the rewards, in units of the real environment.
        length: Actions taken.
        real_frames: Real frames consumed, action repeat counted.
        terminated: It ended by the task, not by the time limit.
        deciding_s: Seconds spent in the agent's `predict`, V and M not counted; equal episodes may differ in it.
    """

    seed: int
    undiscounted_return: float
    length: int
    real_frames: int
    terminated: bool
    deciding_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Score:
    """Real episodes of one agent. Returns are undiscounted, over whole episodes, in units of the real environment.

    Attributes:
        real_id: The real environment.
        agent: Its id, path or kind; "random" for the baseline, "shipped" for the bundle's own.
        seeds: Seed of each episode.
        returns: Return of each episode, in the order of `seeds`.
        lengths: Actions of each episode.
        mean: Mean return.
        std: Sample standard deviation of the returns (n - 1); 0 of a single episode.
        ci95: 95% bootstrap interval of the mean.
        real_frames: Real frames consumed to train model and agent, validation included; None when one of them does
            not say.
        played_frames: Real frames of these episodes themselves.
        ms_per_decision: Milliseconds of the agent's own `predict` for each action, V and M not counted, on one thread;
            it depends on the machine and on `at_once`, and equal scores may differ in it.
        changed: What was changed of the real environment (`real` of `evaluate`); empty where it is the model's own.
        at_once: Episodes whose decisions were made together.
        kwargs: Keyword arguments of the model's own real environment, without what `changed` says.
    """

    real_id: str
    agent: str
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    mean: float
    std: float
    ci95: tuple[float, float]
    real_frames: int | None
    played_frames: int
    ms_per_decision: float = field(default=0.0, compare=False)
    changed: dict[str, Any] = field(default_factory=dict)
    at_once: int = 1
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def episodes(self) -> int:
        """How many episodes were played."""
        return len(self.returns)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the keys of `dreamenv eval --json`."""
        return {
            "real_id": self.real_id,
            **({"kwargs": self.kwargs} if self.kwargs else {}),
            "agent": self.agent,
            "episodes": self.episodes,
            "seeds": list(self.seeds),
            "returns": list(self.returns),
            "mean": self.mean,
            "std": self.std,
            "ci95": list(self.ci95),
            "real_frames": self.real_frames,
            "lengths": list(self.lengths),
            "played_frames": self.played_frames,
            "ms_per_decision": self.ms_per_decision,
            **({"changed": self.changed} if self.changed else {}),
            **({"at_once": self.at_once} if self.at_once > 1 else {}),
        }


def evaluate(  # noqa: PLR0913  (they are the options of `dreamenv eval`)
    world_model: WorldModel | str | Path,
    agent: AnyAgent | None = None,
    *,
    algo: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    role: str = "evaluation",
    real: Mapping[str, Any] | None = None,
    at_once: int = 1,
    workers: AnyWorkers = None,
    progress: Callable[[EpisodeResult], None] | None = None,
    report: Callable[[str], None] = print,
) -> Score:
    """Score an agent on real episodes.

    Args:
        world_model: The model, a registered id, or a bundle's folder.
        agent: An agent, its id, folder or file, "random", or a planner in the dream of `world_model`; see
            `resolve_agent`. None takes the agent that lies in the bundle; then `world_model` must be an id or a folder.
        algo: The algorithm of stable-baselines3 that saved the zip at path `agent`; see `load_agent`.
        episodes: How many.
        seed: Which: episodes of one seed are always the same.
        role: "evaluation", or "validation" for episodes that choose between agents; their seeds never meet.
        real: What to change of the real environment, to see how robust the agent is: fields of `RealEnvSpec` by name.
            `kwargs` are added to the model's, `wrappers` are put around them (see `dreamenv.data.variants`).
        at_once: Episodes that a planner plays side by side in each process, deciding for all of them in one batch, many
            times faster. A batch rounds by its size, so another number may send a chaotic episode elsewhere. Agents
            that are no planners gain nothing by it, and play one after the other.
        workers: Processes; 0 plays in this one, None takes one a core. The score does not depend on it. They are
            spawned, so a script needs its `if __name__ == "__main__"`.
        progress: Called after each episode, in the order in which they end; for those of a worker when its lot has.
        report: Receives a line when a worker dies (its lot is tried again), and one when the agent has learned in
            another model.

    Raises:
        UnknownDreamError, BundleError: Model or agent cannot be loaded.
        SpaceMismatchError: The agent's spaces are not those of the model.
        ConfigurationError: A number out of range, or no agent to take.
        MissingExtraError: The real environment's package is not installed.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    seeds = episode_seeds(role, seed, episodes)
    model = open_world_model(world_model)
    kwargs = plain_values(model.real.kwargs)
    if real:
        model = model.with_real(changed_real(model.real, real))
    player = resolve_agent(agent, model, source=world_model, algo=algo)
    learned_in = getattr(player.agent, "provenance", {}).get("weights")
    if learned_in not in (None, model.weights_digest()):
        report(f"note: {player.label} has learned in another model than this one, which may see the game otherwise")
    lots = in_lots(player, seeds, at_once)
    results = play_episodes(model, player, lots, _play, workers=workers, progress=progress, report=report)
    returns = [result.undiscounted_return for result in results]
    length = sum(result.length for result in results)
    return Score(
        real_id=model.real.id,
        agent=player.label,
        seeds=tuple(seeds),
        returns=tuple(returns),
        lengths=tuple(result.length for result in results),
        mean=float(np.mean(returns)),
        std=float(np.std(returns, ddof=1)) if episodes > 1 else 0.0,
        ci95=bootstrap_interval(returns, seed=seed),
        real_frames=_training_frames(model, player),
        played_frames=sum(result.real_frames for result in results),
        ms_per_decision=1000 * sum(result.deciding_s for result in results) / length,
        changed=plain_values(real or {}),
        at_once=len(lots[0]),
        kwargs=kwargs,
    )


def changed_real(real: RealEnvSpec, changes: Mapping[str, Any]) -> RealEnvSpec:
    """`real` with `changes` of its fields; `kwargs` are added, `wrappers` come around its own.

    Raises:
        ConfigurationError: An unknown field, or a value that it cannot have.
    """
    fields = {field.name for field in dataclass_fields(real)}
    for name in changes:
        if name not in fields or name == "id":
            raise ConfigurationError(f"real: no field {name!r} can be changed. {did_you_mean(name, fields - {'id'})}")
    merged = dict(changes)
    try:
        if "kwargs" in merged:
            merged["kwargs"] = {**real.kwargs, **merged["kwargs"]}
        if "wrappers" in merged:
            merged["wrappers"] = (*real.wrappers, *map(_as_wrapper, _as_list(merged["wrappers"])))
        return replace(real, **merged)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"real={dict(changes)}: {error}") from error


def _as_list(given: Any) -> list[Any]:
    return [given] if isinstance(given, (str, Mapping, Wrapper)) else list(given)


def _as_wrapper(given: Any) -> Wrapper:
    """Of a wrapper, its path, or a mapping of its fields."""
    if isinstance(given, Wrapper):
        return given
    return Wrapper(given) if isinstance(given, str) else Wrapper(**given)


def _play(real: RealEpisodes, seeds: tuple[int, ...]) -> Iterator[EpisodeResult]:
    found = [EpisodeResult(seed, 0.0, 0, 0, False) for seed in seeds]
    begun = set()
    for number, moment in real.play_together(seeds):
        if number not in begun:  # the reset
            begun.add(number)
            continue
        former = found[number]
        found[number] = EpisodeResult(
            former.seed,
            former.undiscounted_return + float(moment.reward),
            former.length + 1,
            former.real_frames + int(moment.info["real_frames"]),
            bool(moment.terminated),
            former.deciding_s + moment.deciding_s,
        )
        if not np.isfinite(found[number].undiscounted_return):
            raise NonFiniteError(
                f"reward {moment.reward} at step {former.length + 1} of the real episode with seed {former.seed}"
            )
        if moment.terminated or moment.truncated:
            yield found[number]


class Validator:
    """Scores agents on real validation episodes, for `dreamenv.agents.evolve(validate=...)`.

    Every agent plays the same episodes, so that their scores compare; evaluation never uses their seeds.
    """

    def __init__(
        self,
        world_model: WorldModel | str | Path,
        *,
        episodes: int,
        seed: int = 0,
        workers: AnyWorkers = None,
        report: Callable[[str], None] = print,
    ) -> None:
        self._model = open_world_model(world_model)
        self._episodes, self._seed, self._workers = episodes, seed, workers
        self._report = report

    def __call__(self, agent: Agent) -> ValidationScore:
        """The agent's real validation score; see `evaluate` for errors."""
        score = evaluate(
            self._model,
            agent,
            episodes=self._episodes,
            seed=self._seed,
            role="validation",
            workers=self._workers,
            report=self._report,
        )
        return ValidationScore(score.mean, score.returns, score.played_frames)


def returns_summary(returns: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation, 95% interval of the mean and number of returns, named as by `Score.to_json`."""
    return {
        "mean": float(np.mean(returns)),
        "std": float(np.std(returns, ddof=1)) if len(returns) > 1 else 0.0,
        "ci95": list(bootstrap_interval(returns)),
        "episodes": len(returns),
    }


def bootstrap_interval(
    returns: Sequence[float], *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron 1979): resample with replacement, take the means' percentiles.

    Raises:
        ConfigurationError: No returns, no resamples, or a level outside (0, 1).
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or resamples < 1 or not 0 < level < 1:
        raise ConfigurationError(
            f"a bootstrap needs returns, resamples >= 1 and level in (0, 1); got {values.size}, {resamples}, {level}"
        )
    generator = np.random.default_rng(seed)
    at_once = max(1, 1_000_000 // values.size)
    means = [
        values[generator.integers(values.size, size=(min(at_once, resamples - first), values.size))].mean(axis=1)
        for first in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _training_frames(model: WorldModel, player: ResolvedAgent) -> int | None:
    """Real frames of model and agent together; a baseline that learned nothing has consumed none."""
    return 0 if player.blind else consumed_frames(model.provenance, getattr(player.agent, "provenance", {}))
