"""From collected episodes to a bundle: V, encoding, M, start states."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv.data.episodes import EpisodeCache, EpisodeStore, build_cache
from dreamenv.data.preprocess import make_real_env
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import seeded_weights
from dreamenv.training.fit import Scalars
from dreamenv.training.fit_vision import fit_vision
from dreamenv.training.ledger import record_frames
from dreamenv.training.panels import open_loop_panel, reconstruction_panel
from dreamenv.training.recipes.fit_mdn_rnn import fit_memory, set_latent_scale
from dreamenv.training.sequences import encode_episodes
from dreamenv.training.start_states import make_start_states
from dreamenv.training.tensorboard import Recorder
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.vision.identity import IdentityVision
from dreamenv.vision.vae import ConvVAE
from dreamenv.world_model import WorldModel

# Arguments of the models and fits that are no options: `train` gives them itself
_GIVEN_BY_TRAIN = {"vision", "memory", "cache", "latents", "out_dir", "action_space", "seed", "settings", "progress"}


@dataclass(frozen=True)
class TrainOptions:
    """Hyperparameters of `train`.

    Attributes:
        vision: Keyword arguments of `ConvVAE` (image environments).
        memory: Keyword arguments of `MDNRNN`.
        fit_vision: Keyword arguments of `fit_vision`.
        fit_memory: Keyword arguments of `fit_memory`.
        temperature: Default temperature of the dream.
        replay_starts: Replay start states to keep.
        seed: Initial weights, batches, start states.
        device: Where to train.
    """

    vision: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    fit_vision: dict[str, Any] = field(default_factory=dict)
    fit_memory: dict[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    replay_starts: int = 1024
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, function in (
            ("vision", ConvVAE),
            ("memory", MDNRNN),
            ("fit_vision", fit_vision),
            ("fit_memory", fit_memory),
        ):
            given = _GIVEN_BY_TRAIN | ({"latent_size"} if name == "memory" else set())
            known = inspect.signature(function).parameters.keys() - given
            for key in getattr(self, name):
                if key not in known:
                    raise ConfigurationError(f"{name}: unknown option {key!r}. {did_you_mean(key, known)}")


def train(
    real: RealEnvSpec,
    run_dir: str | Path,
    options: TrainOptions,
    *,
    episodes: str | Path | None = None,
    begin: WorldModel | None = None,
    max_episode_steps: int | None = None,
    provenance: dict[str, Any] | None = None,
    tensorboard: bool = True,
    progress: Callable[[str, int, int, Scalars], None] = lambda stage, step, steps, scalars: None,
) -> WorldModel:
    """Fit V and M to real episodes and write the bundle `<run_dir>/bundle`.

    Continues where an earlier call with the same options was killed. V's checkpoint lies in `<run_dir>/vision`, M's in
    `<run_dir>/memory`, TensorBoard events in `<run_dir>/tensorboard`, real frames in `<run_dir>/ledger.json`.

    Args:
        real: The real environment that the episodes are of.
        run_dir: The run directory.
        options: Hyperparameters.
        episodes: Folder of the episode store; `<run_dir>/episodes` by default.
        begin: A model of the same options whose weights the fit starts from; None starts afresh. With it, V is kept as
            it is when `fit_vision` has 0 steps.
        max_episode_steps: The dream's time limit in actions; the longest real episode by default.
        provenance: Recorded in the bundle.
        tensorboard: Whether to write TensorBoard events.
        progress: Called with the stage ("vision", "encode", "memory"), step, steps and scalars.

    Raises:
        EpisodeFileError: There are no episodes, or one is cut short.
        NonFiniteError, ConfigurationError: As `fit`.
    """
    run_dir = Path(run_dir)
    store = EpisodeStore(run_dir / "episodes" if episodes is None else episodes)
    cache = build_cache(store, store.path.parent / "cache")
    ledger = record_frames(run_dir, "collect", store.real_frames)
    env = make_real_env(real)
    env.close()
    action_space = env.action_space
    _check_episodes_fit(env.observation_space.shape, cache, real)
    recorder = Recorder(run_dir / "tensorboard") if tensorboard else None
    device = _usable_device(options.device)
    data = _fingerprint(cache)

    vision = _new_vision(cache, options).to(device)
    if begin is not None:
        vision.load_state_dict(begin.vision.state_dict())
    frames = _sample_frames(cache)

    def on_vision(step: int, steps: int, scalars: Scalars) -> None:
        progress("vision", step, steps, scalars)
        if recorder is not None:
            recorder.scalars("vision", step, scalars)
            recorder.picture("vision/reconstructions", step, reconstruction_panel(vision, frames))

    if vision.is_image and not (begin is not None and options.fit_vision.get("steps") == 0):
        fit_vision(
            vision,
            cache,
            run_dir / "vision",
            seed=options.seed,
            settings={"data": data},
            progress=on_vision,
            **options.fit_vision,
        )
    latents = encode_episodes(vision, cache, progress=lambda row, rows: progress("encode", row, rows, {}))

    with seeded_weights(options.seed):
        memory = MDNRNN(vision.latent_size, action_space, **options.memory).to(device)
    if begin is not None:
        memory.load_state_dict(begin.memory.state_dict())
    panel = _panel_episode(cache)

    def on_memory(step: int, steps: int, scalars: Scalars) -> None:
        progress("memory", step, steps, scalars)
        if recorder is not None:
            recorder.scalars("memory", step, scalars)
            if vision.is_image and panel is not None:
                recorder.picture("memory/open_loop", step, open_loop_panel(vision, memory, cache, panel, context=10))

    sample = options.fit_memory.get("latents_as", "denoise") != "mean"
    active = set_latent_scale(memory, latents, sample=sample)
    progress("memory", 0, 0, {"active_latents": float(active)})
    fitted = fit_memory(
        memory,
        cache,
        latents,
        run_dir / "memory",
        seed=options.seed,
        settings={"data": data, "vision_weights": _weights_fingerprint(vision)},
        progress=on_memory,
        **options.fit_memory,
    )
    starts = make_start_states(
        memory,
        cache,
        latents,
        replay=options.replay_starts,
        margin=real.margin_actions,
        seed=options.seed,
    )
    if recorder is not None:
        recorder.close()
    model = WorldModel(
        vision.cpu(),
        memory.cpu(),
        real,
        action_space,
        starts,
        max_episode_steps=max_episode_steps or int(cache.lengths.max()),
        temperature=options.temperature,
        provenance=(provenance or {})
        | {"real_frames": sum(ledger.values()), "ledger": ledger, "held_out": fitted.best, "seed": options.seed},
    )
    model.save(run_dir / "bundle")
    return model


def _usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"device {name!r} cannot be used: {error}") from error
    return device


def _fingerprint(cache: EpisodeCache) -> str:
    """Sixteen hexadecimal digits that change with the episodes, so that no checkpoint of other data is continued."""
    digest = hashlib.sha256(cache.lengths.tobytes())
    digest.update(np.ascontiguousarray(cache.actions).tobytes())
    digest.update(cache.rewards.tobytes())
    return digest.hexdigest()[:16]


def _weights_fingerprint(vision: Vision) -> str:
    """Sixteen hexadecimal digits that change with V, whose latents M is fitted to."""
    digest = hashlib.sha256()
    for name, part in vision.state_dict().items():
        digest.update(name.encode())
        digest.update(part.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _new_vision(cache: EpisodeCache, options: TrainOptions) -> Vision:
    if cache.observations.dtype != np.uint8:
        return IdentityVision(cache.observations.shape[1])
    with seeded_weights(options.seed):
        return ConvVAE(**options.vision)


def _check_episodes_fit(shape: tuple[int, ...] | None, cache: EpisodeCache, real: RealEnvSpec) -> None:
    if shape != cache.observations.shape[1:]:
        raise ConfigurationError(
            f"the episodes hold observations of shape {cache.observations.shape[1:]}, {real.id} gives {shape}; "
            "were they collected with other preprocessing?"
        )


def _sample_frames(cache: EpisodeCache, count: int = 10) -> np.ndarray:
    """Frames spread over the held-out episodes."""
    episodes = np.flatnonzero(held_out_episodes(cache))
    chosen = episodes[np.linspace(0, len(episodes) - 1, count).astype(int)]
    share = np.linspace(0.1, 0.9, count)
    return np.asarray(cache.observations[cache.first[chosen] + (share * cache.lengths[chosen]).astype(int)])


def _panel_episode(cache: EpisodeCache, needed: int = 61) -> int | None:
    """The first held-out episode long enough for an open-loop panel."""
    fit = np.flatnonzero(held_out_episodes(cache) & (cache.lengths >= needed))
    return int(fit[0]) if len(fit) else None
