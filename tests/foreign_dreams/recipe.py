"""How the model is fitted: encoder, path, draws, decoder and heads in one loss, from windows of observations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.noise.base import GeneratorNoise, seeded_weights, step_generator
from dreamenv.training.fit import FitOptions, fit
from dreamenv.training.recipes.base import Fitted, Job, Recipe, begin_with, steps_for
from foreign_dreams.model import DriftMemory, DriftState, LinearVision


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model."""

    embedding: int = 5
    path: int = 8
    draw: int = 4


@dataclass(frozen=True)
class DriftOptions:
    """Hyperparameters of `DriftRecipe`."""

    sizes: Sizes = field(default_factory=Sizes)
    steps: int = 200
    refit_steps: int = 10
    batch_size: int = 8
    length: int = 10
    learning_rate: float = 3e-3


class DriftRecipe(Recipe[DriftOptions]):
    """V and M in one loss."""

    options_type = DriftOptions

    def refit(self, options: DriftOptions, *, replayed: int | None = None) -> DriftOptions:
        steps = options.refit_steps if replayed is None else steps_for(replayed, options.batch_size * options.length)
        return replace(options, steps=steps)

    def fit(self, job: Job[DriftOptions]) -> Fitted:
        cache, options, sizes = job.cache, job.options, job.options.sizes
        if cache.observations.ndim != 2:
            raise ConfigurationError(f"pictures {cache.observations.shape[1:]}; expected vectors")
        with seeded_weights(job.seed):
            vision = LinearVision(cache.observations.shape[1], sizes.embedding, sizes.path + sizes.draw)
            memory = DriftMemory(sizes.embedding, sizes.path, sizes.draw, job.action_space)
        both = nn.ModuleDict({"vision": vision, "memory": memory}).to(job.device)
        if job.begin is not None:
            begin_with(vision, job.begin.vision)
            begin_with(memory, job.begin.memory)
        aside = held_out_episodes(cache)
        validate_every = max(options.steps // 2, 1)
        fitted = fit(
            both,
            lambda step: self._loss(job, vision, memory, np.flatnonzero(~aside), step)[0],
            lambda: self._held_out(job, vision, memory, np.flatnonzero(aside)),
            FitOptions(options.steps, options.learning_rate, validate_every=validate_every, precision="float32"),
            checkpoint=job.folder / "model" / "checkpoint.safetensors",
            settings={"data": job.data, "seed": job.seed},
            progress=lambda step, steps, scalars: job.report("model", step, steps, scalars),
        )
        with torch.no_grad():
            latents = self._loss(job, vision, memory, np.flatnonzero(~aside), 0, batch_size=64)[1]
        memory.latent_std.copy_(latents.std(0).clamp(min=1e-3))
        return Fitted(vision, memory, fitted.best)

    def _held_out(
        self, job: Job[DriftOptions], vision: LinearVision, memory: DriftMemory, episodes: np.ndarray
    ) -> dict[str, float]:
        losses, _ = self._loss(job, vision, memory, episodes, 0)
        return {name: float(value) for name, value in losses.items()}

    def _loss(
        self,
        job: Job[DriftOptions],
        vision: LinearVision,
        memory: DriftMemory,
        episodes: np.ndarray,
        step: int,
        batch_size: int | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses of a random batch of windows, and the latents in it."""
        cache, length = job.cache, job.options.length
        rng = np.random.default_rng([job.seed, step])
        chosen = rng.choice(episodes, batch_size or job.options.batch_size)
        begin = (rng.random(len(chosen)) * np.maximum(cache.lengths[chosen] - length, 1)).astype(np.int64)
        rows = cache.first_step[chosen] + begin
        frames = cache.first[chosen] + begin
        noise = GeneratorNoise(step_generator(job.seed, step, job.device))

        def seen(t: int) -> Tensor:
            return torch.from_numpy(np.array(cache.observations[frames + t])).to(job.device)

        state = memory.initial(vision.encode(seen(0)), noise=noise)
        losses: dict[str, list[Tensor]] = {"picture": [], "divergence": [], "reward": []}
        latents = [memory.latent(state)]
        for t in range(length):
            action = torch.from_numpy(cache.actions[rows + t]).to(job.device)
            path = memory.advance(state, action)
            expected, spread = memory.before(path)
            mean, std = memory.after(path, vision.encode(seen(t + 1)))
            state = DriftState(path, mean + std * noise.normal(len(path), memory.draw_size))
            latent = memory.latent(state)
            pays = torch.from_numpy(cache.rewards[rows + t]).to(job.device)
            distributions = (torch.distributions.Normal(mean, std), torch.distributions.Normal(expected, spread))
            losses["picture"].append((vision.decode(latent) - seen(t + 1)).square().sum(-1).mean())
            losses["divergence"].append(torch.distributions.kl_divergence(*distributions).sum(-1).mean())
            losses["reward"].append((memory.reward(latent).squeeze(-1) - pays).square().mean())
            latents.append(latent)
        means = {name: torch.stack(parts).mean() for name, parts in losses.items()}
        return {"loss": torch.stack(list(means.values())).sum(), **means}, torch.cat(latents)
