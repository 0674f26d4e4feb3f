"""PlaNet and Dreamer: encoder, RSSM, decoder and heads in one loss."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import step_generator
from dreamenv.tensor_files import tensors_fingerprint
from dreamenv.training.checkpoint import below, restore_training, training_tensors
from dreamenv.training.fit import PRECISIONS, FitOptions, Losses, Scalars, faster_precision, fit
from dreamenv.training.mirror import Mirror
from dreamenv.training.recipes.base import ContinualFit, Fitted, Job, Recipe, check_pictures, going_on, steps_for
from dreamenv.training.recipes.joint import (
    JointModel,
    RSSMOptions,
    held_out_scalars,
    new_joint_model,
    set_latent_std,
)
from dreamenv.training.recipes.vae import fitted_vision
from dreamenv.training.replay import Replay, ReplayBatch, Replayed, Windows
from dreamenv.training.start_states import Embed, embed_by
from dreamenv.training.steps import RepeatedStep, Tensors
from dreamenv.vision.base import Vision
from dreamenv.vision.batches import encode_rows
from dreamenv.vision.joint import ConvAutoencoder
from dreamenv.vision.stacked import StackedVision
from dreamenv.vision.vae import ConvVAE


class RSSMRecipe(Recipe[RSSMOptions]):
    """V and M fitted together to windows of pictures or vectors that are cut anywhere (Hafner et al. 2019, 2021, 2023).

    Stages: "model", and before it "vision" with a frozen V. Checkpoints: `model/` and `vision/` in the job's folder.
    """

    options_type = RSSMOptions
    windows = True

    def check_spaces(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], options: RSSMOptions
    ) -> None:
        check_pictures(observation_space.shape or (), observation_space.dtype, ConvAutoencoder)
        _mirror(options, action_space, pictures=observation_space.dtype == np.uint8)

    def fit(self, job: Job[RSSMOptions]) -> Fitted:
        options = job.options
        sight = Sight.of(job)
        cache = sight.cache(job.cache)
        model = sight.model(job, cache)
        held_out = held_out_episodes(cache)
        unseen = np.flatnonzero(held_out)
        training = Replay(
            cache,
            np.flatnonzero(~held_out),
            length=options.fit.sequence_length,
            recency=options.fit.recency,
            mirror=sight.mirror,
            mirrored=sight.mirrored(job.cache),
        )
        validation = Replay(cache, unseen, length=window_within(cache, unseen, options.fit.sequence_length))

        def losses(step: int) -> Losses:
            batch = training.draw(options.fit.batch_size, np.random.default_rng([job.seed, step]))
            return model.loss(batch.to(job.device), options.loss, step_generator(job.seed, step, job.device))

        fitted = fit(
            model,
            losses,
            lambda: held_out_scalars(model, validation, options.loss, seed=job.seed),
            FitOptions.of(job.options.fit),
            checkpoint=job.folder / "model" / "checkpoint.safetensors",
            settings={
                **job.given,
                "frozen": None if sight.frozen is None else tensors_fingerprint(sight.frozen.state_dict()),
                "seed": job.seed,
                "vision": sight.vision(model).config(),
                "memory": model.memory.config(),
                "loss": asdict(options.loss),
                "mirror": options.mirror,
                "windows": [options.fit.batch_size, options.fit.sequence_length, options.fit.recency],
            },
            progress=lambda step, steps, scalars: job.report("model", step, steps, scalars),
        )
        set_latent_std(model, training, seed=job.seed)
        embed = embed_by(model.vision, cache, device=job.device)  # what a frozen V encodes of the episodes is known
        return Fitted(sight.vision(model), model.memory, fitted.best, embed=embed)

    def refit(self, options: RSSMOptions, *, replayed: int | None = None) -> RSSMOptions:
        steps = options.refit_steps
        if replayed is not None:
            steps = steps_for(replayed, options.fit.batch_size * options.fit.sequence_length)
        return replace(options, fit=replace(options.fit, steps=steps))

    def continual(self, job: Job[RSSMOptions], tensors: dict[str, Tensor] | None = None) -> ContinualRSSM:
        return ContinualRSSM(job, tensors)


class Sight:
    """The episodes as the RSSM and its vision see them: as they are, or as a frozen V encodes them.

    Args:
        frozen: V, which stays as it is; None shows observations as they are.
        mirror: In which experience may be seen; None has no mirror.
    """

    def __init__(self, frozen: Vision | None, mirror: Mirror | None = None) -> None:
        self.frozen, self.mirror = frozen, mirror
        self._encoded: list[NDArray[np.float32]] = []
        self._turned: list[NDArray[np.float32]] = []

    @classmethod
    def of(cls, job: Job[RSSMOptions], tensors: dict[str, Tensor] | None = None) -> Sight:
        """What the job asks for: a frozen V comes from `tensors`, from the model to begin with, or is fitted."""
        options = job.options
        mirror = _mirror(options, job.action_space, pictures=job.cache.observations.dtype == np.uint8)
        if not options.network.frozen:
            return cls(None, mirror)
        before = job.begin.vision if job.begin is not None else None
        if tensors is not None:
            frozen: Vision = ConvVAE(**asdict(options.vision)).to(job.device)
            frozen.load_state_dict(tensors)
        elif isinstance(before, StackedVision):
            frozen = before.inner.to(job.device)
        else:
            frozen = fitted_vision(replace(job, begin=None), options.vision, options.fit_vision)
        return cls(frozen.eval().requires_grad_(False), mirror)

    def cache(self, cache: EpisodeCache) -> EpisodeCache:
        """The episodes as they are seen; those of an earlier call, which come first, are not encoded again."""
        if self.frozen is None:
            return cache
        return replace(cache, observations=self._encode(cache, self._encoded, self.frozen, None))

    def mirrored(self, cache: EpisodeCache) -> NDArray[np.float32] | None:
        """What a frozen V encodes of the pictures in the mirror; None where pictures are turned when they are drawn."""
        if self.frozen is None or self.mirror is None:
            return None
        return self._encode(cache, self._turned, self.frozen, self.mirror)

    @staticmethod
    def _encode(
        cache: EpisodeCache, encoded: list[NDArray[np.float32]], vision: Vision, mirror: Mirror | None
    ) -> NDArray[np.float32]:
        """All observations, of which `encoded` holds the first episodes' and gets the others'."""
        device = next(vision.parameters()).device
        # Each episode by itself, so that its embeddings do not depend on what is encoded with it
        for episode in range(len(encoded), cache.episodes):
            first = cache.first[episode]
            rows = cache.observations[first : first + cache.lengths[episode] + 1]
            rows = np.array(rows if mirror is None else mirror.pictures(rows))
            with torch.no_grad():
                encoded.append(encode_rows(vision, torch.from_numpy(rows).to(device), most=256).cpu().numpy())
        return np.concatenate(encoded[: cache.episodes])

    def model(self, job: Job[RSSMOptions], cache: EpisodeCache, *, bound: float | None = None) -> JointModel:
        """V and M to be fitted to what `cache` has made of the episodes; `bound` as for `new_joint_model`."""
        before = job.begin.vision if job.begin is not None else None
        return new_joint_model(job, cache, before.outer if isinstance(before, StackedVision) else before, bound=bound)

    def vision(self, model: JointModel) -> Vision:
        """V from observations on."""
        return model.vision if self.frozen is None else StackedVision.of(self.frozen, model.vision).eval()


def _mirror(options: RSSMOptions, action_space: gym.Space[Any], *, pictures: bool) -> Mirror | None:
    """The mirror that is asked for, if any.

    Raises:
        ConfigurationError: What is for pictures alone is asked for vectors, or the mirror is not one of these actions.
    """
    if not pictures and (options.mirror is not None or options.network.frozen):
        raise ConfigurationError("mirror and network.frozen are for pictures; these observations are vectors")
    return None if options.mirror is None else Mirror(options.mirror, action_space)


class ContinualRSSM(ContinualFit):
    """V and M of an RSSM that learn on while episodes come in, as in Dreamer (Hafner et al. 2023, algorithm 1).

    All episodes are replayed, the newest at once; the learning rate is constant.
    """

    def __init__(self, job: Job[RSSMOptions], tensors: dict[str, Tensor] | None = None) -> None:
        self._options, self._seed, self._device = job.options, job.seed, job.device
        self._sight = Sight.of(job, None if tensors is None else below("frozen.", tensors))
        bound = None if tensors is None else float(tensors["reward_bound"])
        self._model = self._sight.model(job, self._sight.cache(job.cache), bound=bound)
        self.vision, self.memory = self._sight.vision(self._model), self._model.memory
        self._rssm = self._model.memory
        fit_options = job.options.fit
        self.replayed = fit_options.batch_size * fit_options.sequence_length
        self._step = RepeatedStep(
            self._model,
            self._losses,
            learning_rate=fit_options.learning_rate,
            device=torch.device(job.device),
            clip=fit_options.clip,
            checkpoint=job.folder / "continual.safetensors",
        )
        self._precision = {"auto": None}.get(fit_options.precision, fit_options.precision)
        self.take(job.cache)
        if tensors is not None:
            restore_training(tensors, self._model, self._step.optimiser)
            precision = PRECISIONS[int(tensors["precision"])]
            self._precision = None if precision == "auto" else precision

    def take(self, cache: EpisodeCache) -> None:
        with going_on():
            self._rssm.reward_head.check_range(float(cache.rewards.min()), float(cache.rewards.max()))
        options, every = self._options.fit, np.arange(cache.episodes)
        seen = self._sight.cache(cache)
        self._replay = Replay(
            seen,
            every,
            length=options.sequence_length,
            recency=options.recency,
            mirror=self._sight.mirror,
            mirrored=self._sight.mirrored(cache),
        )

    def update(self, step: int) -> tuple[Scalars, Replayed]:
        batch = self._replay.draw(self._options.fit.batch_size, np.random.default_rng([self._seed, step]))
        batch = batch.to(self._device)
        inputs = tuple(vars(batch).values())
        if self._precision is None:
            self._precision = self._faster_precision(inputs)
        dtype = torch.bfloat16 if self._precision == "bfloat16" else torch.float32
        self._model.train()
        scalars, (features,) = self._step(inputs, seed=self._seed, step=step, dtype=dtype)
        self._model.eval()
        features = features.float()
        goes_on = batch.terminated.flatten() == 0
        windows = Windows(features, batch.rewards, batch.first, batch.terminated)
        return scalars, Replayed(self._rssm.state_of(features.flatten(0, 1)[goes_on]), windows)

    def _losses(self, inputs: Tensors, generator: torch.Generator) -> tuple[Losses, Tensors]:
        """Losses of the windows whose tensors are `inputs`, and the features of their moments."""
        batch = ReplayBatch(*inputs)
        observed = self._model.observe(batch, generator)
        return self._model.losses_of(batch, observed, self._options.loss), (observed.features.detach(),)

    def _faster_precision(self, inputs: Tensors) -> str:
        if self._step.records:
            return "float32"

        def losses(number: int) -> Losses:
            return self._losses(inputs, step_generator(self._seed, number, self._device))[0]

        return faster_precision(self._model, losses, self._device)

    def embed(self, cache: EpisodeCache) -> Embed:
        # What a frozen V encodes of the episodes is known
        return embed_by(self._model.vision, self._sight.cache(cache), device=self._device)

    def measure(self, cache: EpisodeCache) -> Scalars:
        every = np.arange(cache.episodes)
        cache = Sight(self._sight.frozen).cache(cache)
        replay = Replay(cache, every, length=window_within(cache, every, self._options.fit.sequence_length))
        return held_out_scalars(self._model, replay, self._options.loss, seed=self._seed)

    def finish(self) -> None:
        set_latent_std(self._model, self._replay, seed=self._seed)

    def tensors(self) -> dict[str, Tensor]:
        precision = torch.tensor(PRECISIONS.index(self._precision or "auto"))
        bound = torch.tensor(self._rssm.reward_head.bound, dtype=torch.float64)
        found = training_tensors(self._model, self._step.optimiser) | {"precision": precision, "reward_bound": bound}
        frozen = self._sight.frozen
        return found | ({} if frozen is None else {f"frozen.{k}": v for k, v in frozen.state_dict().items()})


def window_within(cache: EpisodeCache, episodes: NDArray[np.int64], length: int) -> int:
    """Moments of a window of at most `length`: few episodes may hold less."""
    moments = int((cache.lengths[episodes] + 1).sum())
    return max(min(length, moments), 2)
