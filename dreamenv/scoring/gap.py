"""The gap between dream and reality, measured on real episodes of evaluation seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.resolve import AnyAgent, resolve_agent
from dreamenv.data.collect import check_collected, record_origin
from dreamenv.data.episodes import EpisodeStore
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError
from dreamenv.scoring.calibration import ends, reward_calibration, termination_calibration
from dreamenv.scoring.dream_score import dream_returns
from dreamenv.scoring.horizons import HORIZONS, check_horizons
from dreamenv.scoring.open_loop import OpenLoopRow, open_loop_errors
from dreamenv.scoring.play import RealEpisodes, in_lots, play_episodes
from dreamenv.scoring.teacher_forcing import force_episodes
from dreamenv.training.explained import explained
from dreamenv.types import Episode, episode_seeds
from dreamenv.workers import AnyWorkers
from dreamenv.world_model import WorldModel, check_temperature


@dataclass(frozen=True)
class Gap:
    """How wrong a dream is. Returns are undiscounted, in units of the real environment.

    Attributes:
        real_id: The real environment.
        agent: What drove in dream and reality: "shipped", "random", its id or path.
        seeds: Seed of each real episode, of the role "evaluation".
        dream_returns: Return of each whole dream, at the model's own temperature.
        real_returns: Return of each real episode.
        predicted_returns: Sum of the rewards that M predicts along each real episode, a step ahead at every step.
        reward_r2: Share of the variance of the real episodes' rewards that M predicts a step ahead; 0 where rewards
            do not vary.
        reward_calibration: Mean predicted and real reward of the steps in ten equal bins by predicted reward.
        termination_threshold: M says "it ends" above this calibrated probability, its own cut.
        termination_precision: Share of the ends that M says, at the cut, which are real; None where it says none.
        termination_recall: Share of the real ends that M says at their very step; None where there is none.
        termination_calibration: Mean predicted probability and real rate of ends, binned by predicted probability.
        real_ends: Real episodes that ended by the task.
        open_loop: Errors of dreams under the real actions, a row a horizon.
        samples: Dreams of a moment, whose mean is the point prediction.
        open_loop_temperature: Their temperature.
        played_frames: Real frames of these episodes.
    """

    real_id: str
    agent: str
    seeds: tuple[int, ...]
    dream_returns: tuple[float, ...]
    real_returns: tuple[float, ...]
    predicted_returns: tuple[float, ...]
    reward_r2: float
    reward_calibration: tuple[dict[str, float], ...]
    termination_threshold: float
    termination_precision: float | None
    termination_recall: float | None
    termination_calibration: tuple[dict[str, float], ...]
    real_ends: int
    open_loop: tuple[OpenLoopRow, ...]
    samples: int
    open_loop_temperature: float
    played_frames: int

    @property
    def dream_return(self) -> float:
        """Mean over the dreams."""
        return float(np.mean(self.dream_returns))

    @property
    def real_return(self) -> float:
        """Mean over the real episodes."""
        return float(np.mean(self.real_returns))

    @property
    def predicted_return(self) -> float:
        """Mean over the real episodes of what M predicts of them."""
        return float(np.mean(self.predicted_returns))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with the keys of `dreamenv gap --json`."""
        means = {name: getattr(self, name) for name in ("dream_return", "real_return", "predicted_return")}
        units = "latents in units of M's scale (their standard deviation in the data), pictures in [0, 1]"
        return means | asdict(self) | {"episodes": len(self.seeds), "units": units}

    def scalars(self) -> dict[str, float]:
        """The figures by name, without those that are undefined, for TensorBoard."""
        names = ("dream_return", "real_return", "predicted_return", "reward_r2", "termination_precision")
        found = {name: getattr(self, name) for name in (*names, "termination_recall")}
        for row in self.open_loop:
            found |= {f"{name}_{row.horizon}": getattr(row, name) for name in ("latent_mse", "latent_mse_no_change")}
            found[f"pixel_mse_{row.horizon}"] = row.pixel_mse
        return {name: float(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class GapOptions:
    """How the gap is measured on real episodes.

    Attributes:
        horizons: Dreamed actions after which to compare.
        samples: Dreams of a moment.
        moments: Moments of an episode from which dreams begin.
        temperature: Of the open-loop dreams; 1 is M's own distribution.
        dreams: Whole dreams for the dreamed return.
    """

    horizons: Sequence[int] = HORIZONS
    samples: int = 16
    moments: int = 16
    temperature: float = 1.0
    dreams: int = 64

    def __post_init__(self) -> None:
        check_horizons(self.horizons)
        check_temperature(self.temperature)
        for name in ("samples", "moments", "dreams"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, got {getattr(self, name)}")


def dream_gap(
    world_model: WorldModel | str | Path,
    agent: AnyAgent | None = None,
    options: GapOptions | None = None,
    *,
    algo: str | None = None,
    episodes: int = 20,
    recorded: str | Path | None = None,
    seed: int = 0,
    workers: AnyWorkers = None,
    progress: Callable[[int], None] = lambda episode: None,
    report: Callable[[str], None] = print,
) -> Gap:
    """Play an agent on real evaluation episodes and measure on them how wrong the dream is.

    Args:
        world_model: The model, a registered id, or a bundle's folder.
        agent: An agent, its id, folder or file, a planner's name, or "random"; None takes the agent that lies in the
            bundle. See `resolve_agent`.
        options: How the gap is measured; None takes the defaults.
        algo: The algorithm of stable-baselines3 that saved the agent, if one did; see `load_agent`.
        episodes: Real episodes.
        recorded: Folder of real episodes: an empty one keeps those that are played, and from one that holds some the
            first `episodes` are taken in place of playing, so that several models are measured on the same ones. None
            of the models may have learned from them. The real return is then that of the agent that played them.
        seed: Chooses the evaluation episodes, and the dreams.
        workers: Processes that play the episodes; 0 plays in this one, None takes one a core. The result does not
            depend on it. They are spawned, so a script needs its `if __name__ == "__main__"`.
        progress: Called after each real episode with how many have been played.
        report: Receives a line when a worker dies.

    Raises:
        UnknownDreamError, BundleError: Model or agent cannot be loaded.
        SpaceMismatchError: The agent's spaces are not those of the model.
        ConfigurationError: A number out of range, or recorded episodes of another environment, or too few.
        EpisodeFileError: A recorded episode is damaged.
        MissingExtraError: The real environment's package is not installed.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    model = open_world_model(world_model)
    player = resolve_agent(agent, model, source=world_model, algo=algo)
    if recorded is not None and len(EpisodeStore(recorded)) > 0:
        played = _recorded(model, recorded, episodes)
    else:
        played = record_agent(
            model, player, episodes=episodes, seed=seed, workers=workers, progress=progress, report=report
        )
        if recorded is not None:
            _keep(model, played, recorded, player.label)
    return measure_gap(model, player, played, options, seed=seed)


def _recorded(model: WorldModel, folder: str | Path, wanted: int) -> list[Episode]:
    """The first episodes of a store, which are to be of the model's real environment."""
    check_collected(folder, model.real)
    store = EpisodeStore(folder)
    if len(store) < wanted:
        raise ConfigurationError(
            f"{folder} holds {len(store)} episodes and episodes={wanted} are wanted; ask for at most so many, or take "
            "an empty folder"
        )
    return [store[index] for index in range(wanted)]


def _keep(model: WorldModel, episodes: Sequence[Episode], folder: str | Path, played_by: str) -> None:
    store = EpisodeStore(folder)
    record_origin(folder, model.real, f"evaluation episodes of {played_by}")
    for index, episode in enumerate(episodes):
        store.write(index, episode)


def measure_gap(
    model: WorldModel,
    agent: AnyAgent,
    episodes: Sequence[Episode],
    options: GapOptions | None = None,
    *,
    label: str | None = None,
    seed: int = 0,
) -> Gap:
    """The gap on real episodes that are at hand, which `agent` drove and M has not seen in training.

    Args:
        model: The world model.
        agent: What drove; it dreams too.
        episodes: The real episodes.
        options: How the gap is measured; None takes the defaults.
        label: The agent's name in the report; by default what it was given by.
        seed: Of the dreams.

    Raises:
        ConfigurationError: No episodes.
    """
    options = options or GapOptions()
    if not episodes:
        raise ConfigurationError("the gap is measured on real episodes; got none")
    player = resolve_agent(agent, model, label=label)
    horizons = check_horizons(options.horizons)
    forced = force_episodes(model, episodes, moments=options.moments, horizons=horizons, seed=seed)
    real = np.concatenate([episode.rewards for episode in episodes])
    predicted = np.concatenate(forced.rewards)
    ended, probability = ends(episodes), np.concatenate(forced.termination_probability)
    threshold = model.memory.termination_threshold
    precision, recall = _precision_and_recall(probability > threshold, ended)
    return Gap(
        real_id=model.real.id,
        agent=player.label,
        seeds=tuple(episode.seed for episode in episodes),
        dream_returns=tuple(dream_returns(model, player, episodes=options.dreams, seed=seed).tolist()),
        real_returns=tuple(episode.undiscounted_return for episode in episodes),
        predicted_returns=tuple(float(part.sum(dtype=np.float64)) for part in forced.rewards),
        reward_r2=explained(torch.from_numpy(real), torch.from_numpy(predicted)),
        reward_calibration=reward_calibration(predicted, real),
        termination_threshold=threshold,
        termination_precision=precision,
        termination_recall=recall,
        termination_calibration=termination_calibration(probability, ended),
        real_ends=int(ended.sum()),
        open_loop=open_loop_errors(
            model,
            forced,
            horizons=horizons,
            samples=options.samples,
            seed=seed,
            temperature=options.temperature,
        ),
        samples=options.samples,
        open_loop_temperature=options.temperature,
        played_frames=sum(episode.real_frames for episode in episodes),
    )


def _precision_and_recall(said: NDArray[np.bool_], real: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    both = int((said & real).sum())
    return both / int(said.sum()) if said.any() else None, both / int(real.sum()) if real.any() else None


def record_agent(
    world_model: WorldModel | str | Path,
    agent: AnyAgent | None = None,
    *,
    algo: str | None = None,
    episodes: int,
    seed: int,
    workers: AnyWorkers,
    role: str = "evaluation",
    at_once: int = 1,
    progress: Callable[[int], None] = lambda episode: None,
    report: Callable[[str], None] = print,
) -> list[Episode]:
    """Real episodes of an agent without noise, on seeds of `role` and in their order; see `dream_gap`, `evaluate`."""
    model = open_world_model(world_model)
    player = resolve_agent(agent, model, source=world_model, algo=algo)
    count = iter(range(1, episodes + 1))
    return play_episodes(
        model,
        player,
        in_lots(player, episode_seeds(role, seed, episodes), at_once),
        RealEpisodes.record,
        workers=workers,
        progress=lambda episode: progress(next(count)),
        report=report,
    )
