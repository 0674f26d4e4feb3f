"""Evolving the linear controller inside the dream."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.base import Agent
from dreamenv.agents.controller import LinearController
from dreamenv.agents.evolution_state import CHECKPOINT_FILE, EvolutionState, Generation, ValidationScore
from dreamenv.agents.optimisers import Optimiser, make_optimiser
from dreamenv.agents.options import EvolutionOptions, PopulationOptions
from dreamenv.agents.population import initial_weights, score_population
from dreamenv.agents.population_parts import PopulationParts, population_parts
from dreamenv.agents.saved import check_free, save_agent
from dreamenv.envs.elsewhere import check_on_cpu
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError, NonFiniteError, missing_extra
from dreamenv.noise.base import step_generator
from dreamenv.run_lock import alone_in
from dreamenv.workers import AnyWorkers, find_place
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class Evolution:
    """What came of a run.

    Attributes:
        agent: The agent of the best real validation; without validation, the optimiser's mean solution.
        file: Where it is saved.
        history: One record a generation.
        best_validation: The agent's real validation, None without.
        real_frames: Real frames that validation consumed, interrupted calls included.
        elapsed: Seconds spent, interrupted calls included.
        stopped: "generations" or "time_limit", whichever came first.
    """

    agent: LinearController
    file: Path
    history: list[Generation]
    best_validation: ValidationScore | None
    real_frames: int
    elapsed: float
    stopped: str


@alone_in("out_dir")
def evolve(
    world_model: WorldModel | str | Path,
    *,
    out_dir: str | Path,
    options: EvolutionOptions | None = None,
    seed: int = 0,
    begin: NDArray[np.floating] | None = None,
    validate: Callable[[Agent], ValidationScore] | None = None,
    validate_every: int = 0,
    time_limit: float | None = None,
    tensorboard: bool = False,
    progress: Callable[[Generation], None] | None = None,
) -> Evolution:
    """Evolve a linear controller by its dreamed returns and keep the one that is best in reality.

    Every generation is one batched dream of `population * rollouts` rollouts under common random numbers, and ends
    with a checkpoint in `out_dir`. The same call continues an interrupted run and ends as an unbroken one would, bit
    for bit on the same machine (a time limit apart). Written there: agent.safetensors, evolution.safetensors (the
    checkpoint), evolution.json (the history to read) and ledger.json (real frames consumed).

    Args:
        world_model: The dream, its id or its folder; it is not changed.
        out_dir: Folder.
        options: Hyperparameters; None takes their defaults.
        seed: Of candidates and dreams.
        begin: `[outputs, F + 1]` weights to begin the search at; None begins at zero.
        validate: Scores an agent on real validation episodes (see `dreamenv.scoring.Validator`).
        validate_every: Generations between real validations of the mean solution and of the best candidate; the last
            generation is validated too. 0 chooses by the dream alone and uses no real frame.
        time_limit: Seconds of work, interrupted calls included, after which no generation begins.
        tensorboard: Write scalars to `out_dir`/tensorboard.
        progress: Called after every generation.

    Raises:
        ConfigurationError: A setting out of range, or `out_dir` holds a run with other settings or another agent.
        NonFiniteError: A dreamed return is not finite; the last checkpoint stays good.
        MissingExtraError: `cma` or `tensorboard` is needed and not installed.
    """
    model = open_world_model(world_model)
    options = options or EvolutionOptions()
    if (validate is None) != (validate_every == 0) or validate_every < 0:
        raise ConfigurationError(
            f"validate_every={validate_every} with validate={'None' if validate is None else 'given'}: "
            "give both to validate on real episodes, or neither"
        )
    if time_limit is not None and time_limit <= 0:
        raise ConfigurationError(f"time_limit must be above 0 seconds, got {time_limit}")
    weights = _first_weights(model, options, begin)
    search = make_optimiser(
        options.optimiser,
        weights.ravel(),
        population=options.population,
        sigma=options.sigma,
        seed=seed,
        **options.optimiser_options,
    )
    settings = _settings(model, options) | {
        "seed": seed,
        "begin": None if begin is None else hashlib.sha256(weights.tobytes()).hexdigest()[:16],
        "validate_every": validate_every,
    }
    folder = Path(out_dir)
    check_free(folder, CHECKPOINT_FILE)
    folder.mkdir(parents=True, exist_ok=True)
    state = EvolutionState.resume(folder, settings)
    state.precision = state.precision or _precision(model, options)
    for fitness in state.fitness:
        search.ask()
        search.tell(fitness)
    writer = _summary_writer(folder, len(state.history)) if tensorboard else None
    run = _Run(model, search, state, weights.shape, options.max_batch)
    began = time.monotonic() - state.elapsed

    def time_is_up() -> bool:
        state.elapsed = time.monotonic() - began
        return time_limit is not None and state.elapsed >= time_limit

    last = len(state.history) >= options.generations or time_is_up()
    try:
        with run.employing(None if last else options.workers):
            while not last:
                index = len(state.history) + 1
                candidates, fitness = run.dream(index)
                last = index == options.generations or time_is_up()
                record = Generation(
                    index, float(fitness.mean()), float(fitness.max()), float(np.median(fitness)), search.step_size
                )
                if validate is not None and (index % validate_every == 0 or last):
                    record = run.validated(record, validate, candidates[int(np.argmax(fitness))])
                state.history.append(replace(record, real_frames=state.real_frames + record.validation_frames))
                state.elapsed = time.monotonic() - began
                save_agent(run.agent(), folder)
                state.save(folder)
                if writer is not None:
                    _write_scalars(writer, state.history[-1])
                if progress is not None:
                    progress(state.history[-1])
    finally:
        if writer is not None:
            writer.close()
    agent = run.agent()
    return Evolution(
        agent,
        save_agent(agent, folder),
        state.history,
        state.best_validation,
        state.real_frames,
        state.elapsed,
        "generations" if len(state.history) >= options.generations else "time_limit",
    )


def _first_weights(
    world_model: WorldModel, options: EvolutionOptions, begin: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    """Weights `[outputs, F + 1]` at which the search begins."""
    start = initial_weights(world_model, observation=options.observation, action_map=options.action_map)
    if begin is None:
        return start
    if np.shape(begin) != start.shape:
        raise ConfigurationError(f"begin has weights of shape {np.shape(begin)}, this model needs {start.shape}")
    return np.array(begin, dtype=np.float64)


def _settings(world_model: WorldModel, options: EvolutionOptions) -> dict[str, Any]:
    """What must be equal for a run to be continued: neither the number of generations nor what changes no result."""
    given = asdict(options)
    del given["generations"], given["max_batch"]
    return given | {
        "part": None if given.pop("workers") is None else options.part,
        "model": world_model.fingerprint(),
        "horizon": world_model.max_episode_steps if options.horizon is None else options.horizon,
        "temperature": world_model.temperature if options.temperature is None else options.temperature,
        "reward_clip": None if options.reward_clip is None else list(options.reward_clip),  # as JSON gives it back
    }


def _precision(world_model: WorldModel, options: EvolutionOptions) -> str:
    """Of all dreams of a run: a measurement may come out otherwise later, or where a worker is."""
    at_once = options.population if options.workers is None else options.part
    return world_model.memory.stepper(at_once * options.rollouts).precision


class _Run:
    """The parts of a run that belong together: model, optimiser, and what has been found so far."""

    def __init__(
        self, world_model: WorldModel, search: Optimiser, state: EvolutionState, shape: tuple[int, ...], max_batch: int
    ) -> None:
        self._world_model = world_model
        self._search = search
        self._state = state
        self._shape = shape
        self._max_batch = max_batch
        self._parts: PopulationParts | None = None

    @contextmanager
    def employing(self, workers: AnyWorkers) -> Iterator[None]:
        """Within it, workers dream the parts of each generation; None employs nobody."""
        if workers is None:
            yield
            return
        check_on_cpu(self._world_model)
        settings = self._state.settings
        parts = -(-settings["population"] // settings["part"])
        with population_parts(
            self._world_model,
            self._options(),
            self._shape,
            seed=settings["seed"],
            size=settings["part"],
            place=find_place(workers, parts),
            report=logging.getLogger(__name__).warning,
        ) as self._parts:
            yield

    def dream(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Candidates `[P, N]` of generation `index` and their fitness `[P]`, which the optimiser has been told."""
        candidates = self._search.ask()
        try:
            fitness = self._fitness(index, candidates)
        except NonFiniteError as error:
            good = f"{CHECKPOINT_FILE} holds generation {index - 1}" if index > 1 else "there is no checkpoint yet"
            raise NonFiniteError(f"generation {index}: {error}; {good}") from error
        self._search.tell(fitness)
        self._state.fitness.append(fitness)
        return candidates, fitness

    def _fitness(self, index: int, candidates: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._parts is not None:
            return self._parts.fitness(self._search, index, len(candidates))
        weights = torch.from_numpy(candidates.reshape(len(candidates), *self._shape))
        generator = step_generator(self._state.settings["seed"], index)
        returns = score_population(self._world_model, weights, self._options(), generator=generator)
        fitness: NDArray[np.float64] = returns.mean(dim=1).cpu().numpy()
        return fitness

    def _options(self) -> PopulationOptions:
        settings, precision = self._state.settings, self._state.precision
        assert precision is not None
        return PopulationOptions(
            rollouts=settings["rollouts"],
            horizon=settings["horizon"],
            temperature=settings["temperature"],
            start=settings["start"],
            observation=settings["observation"],
            action_map=settings["action_map"],
            expected=settings["expected"],
            action_noise=settings["action_noise"],
            reward_clip=settings["reward_clip"],
            max_disagreement=settings["max_disagreement"],
            max_batch=self._max_batch,
            precision=precision,
        )

    def validated(
        self, record: Generation, validate: Callable[[Agent], ValidationScore], best: NDArray[np.float64]
    ) -> Generation:
        """`record` with the real scores of the mean solution and of candidate `best` `[N]`; the better one is kept."""
        state = self._state
        pair = (self._search.mean, best)
        scores = [validate(self._controller(weights, {})) for weights in pair]
        for weights, score in zip(pair, scores, strict=True):
            if state.best_validation is None or score.mean > state.best_validation.mean:
                state.best_validation, state.best_generation = score, record.index
                state.best_weights = weights.reshape(self._shape).astype(np.float32)
        return replace(record, validation_mean=scores[0], validation_best=scores[1])

    def agent(self) -> LinearController:
        """The agent of the best validation, or without validation the optimiser's mean solution."""
        state = self._state
        best = state.best_validation
        provenance = {
            "real_id": self._world_model.real.id,
            "real_frames": state.real_frames,
            "weights": self._world_model.weights_digest(),
            "settings": state.settings,
            "generations": len(state.history),
            "generation": state.best_generation or len(state.history),
            "validation": None if best is None else {"mean": best.mean, "episodes": len(best.returns)},
        }
        return self._controller(self._search.mean if state.best_weights is None else state.best_weights, provenance)

    def _controller(self, weights: NDArray[Any], provenance: dict[str, Any]) -> LinearController:
        settings = self._state.settings
        return LinearController(
            weights.reshape(self._shape),
            self._world_model.observation_space(settings["observation"]),
            self._world_model.action_space,
            observation=settings["observation"],
            action_map=settings["action_map"],
            provenance=provenance,
        )


def _summary_writer(folder: Path, generations: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise missing_extra("tensorboard", "train") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=generations + 1)


def _write_scalars(writer: Any, record: Generation) -> None:
    values = {
        "dream/mean": record.dream_mean,
        "dream/best": record.dream_best,
        "dream/median": record.dream_median,
        "step_size": record.step_size,
        "real_frames": record.real_frames,
    }
    if record.validation_mean is not None and record.validation_best is not None:
        values["real/mean_solution"] = record.validation_mean.mean
        values["real/best_candidate"] = record.validation_best.mean
    for name, value in values.items():
        writer.add_scalar(f"evolution/{name}", value, record.index)
