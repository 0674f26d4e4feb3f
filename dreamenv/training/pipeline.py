"""From collected episodes to a bundle: a recipe gives V and M, and real moments give start states."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from dreamenv.data.collect import check_collected
from dreamenv.data.episodes import EpisodeCache, EpisodeStore, build_cache
from dreamenv.data.preprocess import PreprocessedEnv, at_own_speed, make_real_env
from dreamenv.errors import ConfigurationError, StorageError
from dreamenv.options import options_from, plain
from dreamenv.run_lock import alone_in
from dreamenv.training.checkpoint import load_tensors
from dreamenv.training.fit import Scalars
from dreamenv.training.ledger import record_frames
from dreamenv.training.recipes.base import Fitted, Job
from dreamenv.training.recipes.kinds import RECIPES
from dreamenv.training.start_states import embed_by, make_start_states
from dreamenv.training.tensorboard import TensorBoardRecorder
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel, check_temperature

# Actions that a dream of a real environment without time limit lasts at least
_WITHOUT_LIMIT = 1000


@dataclass(frozen=True)
class TrainOptions:
    """What `train` fits, and how.

    Attributes:
        recipe: A registered recipe ("mdn_rnn", "rssm", "ensemble", "value_equivalent", "tabular", or one of
            `register_recipe`).
        options: Its options: the recipe's own dataclass, or a mapping such as `{"fit_memory": {"steps": 500}}`, which
            becomes one; None takes its defaults.
        temperature: Default temperature of the dream.
        replay_starts: Replay start states to keep.
        seed: Initial weights, batches, start states.
        device: Where to train.

    Raises:
        ConfigurationError: An unknown recipe, or options that it does not take; the nearest names are given.
    """

    recipe: str = "mdn_rnn"
    options: Any = None
    temperature: float = 1.0
    replay_starts: int = 1024
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        options = options_from(RECIPES[self.recipe].options_type, self.options, where=self.recipe)
        object.__setattr__(self, "options", options)
        check_temperature(self.temperature)
        if self.replay_starts < 0:
            raise ConfigurationError(f"replay_starts must be at least 0, got {self.replay_starts}")


@alone_in("run_dir")
def train(
    real: RealEnvSpec,
    run_dir: str | Path,
    options: TrainOptions | None = None,
    *,
    episodes: str | Path | None = None,
    begin: WorldModel | None = None,
    max_episode_steps: int | None = None,
    provenance: dict[str, Any] | None = None,
    tensorboard: bool = True,
    progress: Callable[[str, int, int, Scalars], None] = lambda stage, step, steps, scalars: None,
) -> WorldModel:
    """Fit V and M to real episodes by a recipe and write the bundle `<run_dir>/bundle`.

    Continues where an earlier call with the same options was killed; where the episodes have changed since, it fits
    anew and warns. The recipe's checkpoints lie in `<run_dir>`
    (`vision/`, `memory/`), TensorBoard events in `<run_dir>/tensorboard`, real frames in `<run_dir>/ledger.json`.

    Args:
        real: The real environment that the episodes are of.
        run_dir: The run directory.
        options: The recipe and its hyperparameters; the defaults of "mdn_rnn" by default.
        episodes: Folder of the episode store; `<run_dir>/episodes` by default.
        begin: A model that the fit starts from, as the recipe takes it; None starts afresh.
        max_episode_steps: The dream's time limit in actions; the real environment's by default, since an agent that
            survives for longer than random play does cannot be learned in a shorter dream. Where the real environment
            has none, the longest episode, and at least 1000.
        provenance: Recorded in the bundle, with the recipe, its options and the real frames.
        tensorboard: Whether to write TensorBoard events.
        progress: Called with the recipe's stage, step, steps and scalars.

    Raises:
        EpisodeFileError: There are no episodes, or one is cut short.
        ConfigurationError: The episodes are of another real environment, or were prepared otherwise.
        NonFiniteError, ConfigurationError: As `Recipe.fit`.
    """
    options = options or TrainOptions()
    run_dir = Path(run_dir)
    store = EpisodeStore(run_dir / "episodes" if episodes is None else episodes)
    check_collected(store.path, real)
    device = usable_device(options.device)
    cache = _cache_of(store, run_dir)
    env = make_real_env(real)
    env.close()
    action_space = env.action_space
    _check_episodes_fit(env, cache, real)
    own = store.path.parent == run_dir.absolute()
    ledger = record_frames(run_dir, "collect", store.real_frames, parts=own)
    recorder = TensorBoardRecorder(run_dir / "tensorboard") if tensorboard else None
    job = Job(
        options.options,
        cache,
        real,
        action_space,
        run_dir,
        seed=options.seed,
        device=device,
        begin=begin,
        progress=progress,
        recorder=recorder,
    )
    _set_aside_other_data(run_dir, job.data)
    try:
        fitted: Fitted = RECIPES[options.recipe]().fit(job)
    finally:
        if recorder is not None:
            recorder.close()
    starts = fitted.starts or make_start_states(
        fitted.memory,
        cache,
        fitted.embed or embed_by(fitted.vision, cache, device=device),
        replay=options.replay_starts,
        margin=real.margin_actions,
        seed=options.seed,
    )
    model = WorldModel(
        fitted.vision.cpu(),
        fitted.memory.cpu(),
        at_own_speed(real, env),
        action_space,
        starts,
        max_episode_steps=max_episode_steps or time_limit(real, env, cache),
        temperature=options.temperature,
        provenance=(provenance or {})
        | {"real_frames": sum(ledger.values()), "ledger": ledger, "held_out": fitted.held_out, "seed": options.seed}
        | {"recipe": options.recipe, "options": plain(options.options)},
    )
    model.save(run_dir / "bundle")
    return model


def check_trainable(env: PreprocessedEnv, options: TrainOptions) -> None:
    """Refuse what `train` would refuse of an environment, before anything is collected in it.

    Raises:
        ConfigurationError: As `Recipe.check_spaces`, or a device that cannot be used.
    """
    usable_device(options.device)
    RECIPES[options.recipe]().check_spaces(env.observation_space, env.action_space, options.options)


def _cache_of(store: EpisodeStore, run_dir: Path) -> EpisodeCache:
    """Beside the episodes, where all runs over them find it; of episodes that can only be read, in the run's folder."""
    try:
        return build_cache(store, store.path.parent / "cache")
    except StorageError:
        if store.path.parent.resolve() == run_dir.resolve():
            raise
        return build_cache(store, run_dir / "cache")


def usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"device {name!r} cannot be used: {error}") from error
    return device


def _check_episodes_fit(env: PreprocessedEnv, cache: EpisodeCache, real: RealEnvSpec) -> None:
    shape, actions = env.observation_space.shape, cache.actions
    if shape != cache.observations.shape[1:]:
        raise ConfigurationError(
            f"the episodes hold observations of shape {cache.observations.shape[1:]}, {real.id} gives {shape}; "
            "were they collected with other preprocessing?"
        )
    space = env.action_space
    if isinstance(space, spaces.Discrete):
        first, last = int(space.start), int(space.start) + int(space.n) - 1
        fits = actions.ndim == 1 and actions.dtype.kind == "i" and first <= actions.min() and actions.max() <= last
    else:
        fits = actions.shape[1:] == space.shape and actions.dtype.kind == "f"
    if not fits:
        raise ConfigurationError(
            f"the episodes hold actions of shape {actions.shape[1:]} and dtype {actions.dtype} from {actions.min()} to "
            f"{actions.max()}, {real.id} takes {space}; were they collected with other preprocessing?"
        )


def time_limit(real: RealEnvSpec, env: PreprocessedEnv, cache: EpisodeCache) -> int:
    """The dream's, in actions."""
    return real_time_limit(real, env) or max(int(cache.lengths.max()), _WITHOUT_LIMIT)


def real_time_limit(real: RealEnvSpec, env: PreprocessedEnv) -> int | None:
    """The real environment's, in actions; None where it has none."""
    frames = real.max_episode_steps or (env.spec.max_episode_steps if env.spec is not None else None)
    return None if frames is None else math.ceil(frames / real.action_repeat)


def _set_aside_other_data(run_dir: Path, data: str) -> None:
    """Rename the checkpoints of fits to other episodes, such as those before more were collected."""
    for file in sorted(run_dir.glob("*/checkpoint.safetensors")):
        fitted_to = load_tensors(file)[1].get("settings", {}).get("data", data)
        if fitted_to != data:
            os.replace(file, file.with_name("checkpoint.before.safetensors"))
            warnings.warn(f"{file} is of other episodes than there are now: this stage is fitted anew", stacklevel=3)
