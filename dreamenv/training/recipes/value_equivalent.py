"""MuZero: what a search needs, learned from n-step returns and the policies of searches, and nothing reconstructed."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from dataclasses import asdict, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dreamenv.data.episodes import EpisodeCache
from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.memory.heads import masked_mean
from dreamenv.memory.value_equivalent.model import HiddenState, ValueEquivalent, check_discrete
from dreamenv.noise.base import seeded_weights, step_generator
from dreamenv.training.checkpoint import restore_training, training_tensors
from dreamenv.training.explained import explained
from dreamenv.training.fit import Losses, Scalars, fit, training_step
from dreamenv.training.recipes.base import (
    ContinualFit,
    Fitted,
    Job,
    Recipe,
    begin_with,
    check_pictures,
    going_on,
    steps_for,
)
from dreamenv.training.recipes.value_equivalent_options import ValueEquivalentOptions
from dreamenv.training.replay import Replayed
from dreamenv.training.unrolls import UnrollBatch, Unrolls
from dreamenv.vision.base import Vision
from dreamenv.vision.encoder import PictureEncoder, VectorEncoder

# Held-out moments that are measured at each validation
_MEASURED = 128
_LEAST_STD = 0.01


class ValueEquivalentRecipe(Recipe[ValueEquivalentOptions]):
    """V and M fitted together to what a search needs (Schrittwieser et al. 2020).

    Policies are reanalysed at every step: each moment of a batch is searched anew with a slow copy of the model, as
    MuZero Reanalyse does with a share of them (Schrittwieser et al. 2021, "Online and offline reinforcement learning by
    planning with a learned model"). So episodes carry no statistics of searches, and those of any agent will do.

    Stage and checkpoint: "model", `model/` in the job's folder.
    """

    options_type = ValueEquivalentOptions

    def check_spaces(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], options: ValueEquivalentOptions
    ) -> None:
        check_discrete(action_space)
        check_pictures(observation_space.shape or (), observation_space.dtype, PictureEncoder)

    def fit(self, job: Job[ValueEquivalentOptions]) -> Fitted:
        options = job.options
        networks = Networks.of(job)
        held_out = held_out_episodes(job.cache)
        networks.check_rewards(job.cache)
        training = networks.unrolls(job.cache, held_out=~held_out)
        unseen = networks.unrolls(job.cache, held_out=held_out)
        reached = 0

        def losses(step: int) -> Losses:
            nonlocal reached
            reached = step + 1
            return networks.losses(networks.drawn(training, step, job.seed), step, job.seed)

        def validate() -> Scalars:
            # Targets move, so that losses of two moments do not compare: the last weights are kept
            found = networks.measure(unseen, seed=job.seed)
            return found | {"total": found["loss"], "loss": -float(reached)}

        fitted = fit(
            networks,
            losses,
            validate,
            options.fit.optimiser(),
            checkpoint=job.folder / "model" / "checkpoint.safetensors",
            settings={
                **job.given,
                "seed": job.seed,
                "vision": networks.vision.config(),
                "memory": networks.memory.config(),
                "search": asdict(options.search),
                "targets": asdict(options.targets),
                "batch_size": options.fit.batch_size,
                "average": options.fit.average,
            },
            progress=lambda step, steps, scalars: job.report("model", step, steps, scalars),
        )
        networks.set_unit(training, seed=job.seed)
        held = {name: value for name, value in fitted.best.items() if name != "loss"}
        return Fitted(*networks.kept, held)

    def refit(self, options: ValueEquivalentOptions, *, replayed: int | None = None) -> ValueEquivalentOptions:
        steps = options.refit_steps if replayed is None else steps_for(replayed, options.fit.batch_size)
        return replace(options, fit=replace(options.fit, steps=steps))

    def continual(
        self, job: Job[ValueEquivalentOptions], tensors: dict[str, Tensor] | None = None
    ) -> ContinualValueEquivalent:
        return ContinualValueEquivalent(job, tensors)


class Consistency(nn.Module):
    """How far dreamed states are from those that the real observations then give: 1 - the cosine of a prediction from
    the one and a projection of the other (Ye et al. 2021, "Mastering Atari games with limited data", EfficientZero).

    Where almost every step pays the same, rewards and values hardly tell states apart; what follows a state does.
    """

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.project = nn.Sequential(
            nn.Linear(hidden_size, width), _normal(width), nn.SiLU(), nn.Linear(width, width), _normal(width)
        )
        self.predict = nn.Sequential(nn.Linear(width, width), _normal(width), nn.SiLU(), nn.Linear(width, width))
        self.slow_project = copy.deepcopy(self.project).requires_grad_(False)

    def forward(self, dreamed: Tensor, seen: Tensor) -> Tensor:
        """`[B]`, of states `[B, H]`; no gradient reaches `seen`."""
        with torch.no_grad():
            aim = self.slow_project(seen)
        return 1 - nn.functional.cosine_similarity(self.predict(self.project(dreamed)), aim, dim=-1)


def _normal(width: int) -> nn.Module:
    """Over the batch, as in the source: states that are all alike would be consistent too."""
    return nn.BatchNorm1d(width, track_running_stats=False)


class Networks(nn.Module):
    """V and M, the slow copy that gives values and searches, and the mean of their weights, if one is kept.

    Args:
        vision: V.
        memory: M.
        job: Whose options, environment and actions they are for.

    Attributes:
        kept: V and M as a bundle has them: the mean, or those that learn.
    """

    def __init__(self, vision: Vision, memory: ValueEquivalent, job: Job[ValueEquivalentOptions]) -> None:
        super().__init__()
        self.vision, self.memory = vision, memory
        self.slow_vision = copy.deepcopy(vision).requires_grad_(False)
        self.slow_memory = copy.deepcopy(memory).requires_grad_(False)
        self._options = job.options
        rate, average = job.options.targets.rate, job.options.fit.average
        # A list keeps them from being registered twice
        self._followed: list[tuple[nn.Module, nn.Module, float]] = [
            (self.slow_vision, vision, rate),
            (self.slow_memory, memory, rate),
        ]
        self.kept = (vision, memory)
        if average is not None:
            self.mean_vision = copy.deepcopy(vision).requires_grad_(False)
            self.mean_memory = copy.deepcopy(memory).requires_grad_(False)
            self._followed += [(self.mean_vision, vision, average), (self.mean_memory, memory, average)]
            self.kept = (self.mean_vision, self.mean_memory)
        self.consistency: Consistency | None = None
        if job.options.targets.consistency > 0:
            with seeded_weights(job.seed):
                self.consistency = Consistency(memory.feature_size, job.options.memory.width)
            self._followed.append((self.consistency.slow_project, self.consistency.project, rate))
        self._planner = job.options.search.planner()
        # A world model puts its parts into evaluation mode, which changes nothing here: no layer is random
        self._searched = job.world_model(self.slow_vision, self.slow_memory)

    @classmethod
    def of(cls, job: Job[ValueEquivalentOptions]) -> Networks:
        """For the job's observations and actions; with its model to begin with, with its weights.

        Raises:
            ConfigurationError: Observations, actions or rewards that they cannot take.
        """
        options, shape = job.options, job.cache.observations.shape[1:]
        pictures = job.cache.observations.dtype == np.uint8
        check_pictures(shape, job.cache.observations.dtype, PictureEncoder)
        size = options.memory.hidden_size
        with seeded_weights(job.seed):
            vision: Vision
            if pictures:
                vision = PictureEncoder(size, options.encoder.depth)
            else:
                vision = VectorEncoder(shape[0], size, options.encoder.width, standardised=True)
                vision.standardise(job.cache.observations)
            memory = ValueEquivalent(vision.embedding_size, job.action_space, **asdict(options.memory))
        if job.begin is not None:
            begin_with(vision, job.begin.vision)
            begin_with(memory, job.begin.memory)
        return cls(vision, memory, job).to(job.device)

    def unrolls(self, cache: EpisodeCache, *, held_out: NDArray[np.bool_] | None = None) -> Unrolls:
        """Moments of the episodes that are chosen, or of all."""
        episodes = np.arange(cache.episodes) if held_out is None else np.flatnonzero(held_out)
        targets = self._options.targets
        return Unrolls(
            cache,
            episodes,
            steps=targets.unroll,
            returns=targets.returns,
            discount=self._options.search.discount,
            oldest_returns=targets.oldest_returns,
        )

    def check_rewards(self, cache: EpisodeCache) -> None:
        """Refuse rewards that M cannot say.

        Raises:
            ConfigurationError: There are such.
        """
        largest = float(np.abs(cache.rewards).max())
        if largest > self.memory.reward_head.largest:
            raise ConfigurationError(
                f"rewards of up to {largest:g}; memory.support={self._options.memory.support} reaches "
                f"{self.memory.reward_head.largest:g}. Take a larger one."
            )

    def drawn(self, unrolls: Unrolls, step: int, seed: int) -> UnrollBatch:
        """The batch of a step, which depends on `step` and `seed`."""
        batch = unrolls.draw(self._options.fit.batch_size, np.random.default_rng([seed, step]))
        return batch.to(self.memory.device)

    def losses(self, batch: UnrollBatch, step: int, seed: int) -> Losses:
        """Of the batch of a step; the copies follow by one step."""
        self.follow()
        return self.losses_of(batch, step_generator(seed, step, self.memory.device), self.vision, self.memory)

    def losses_of(
        self, batch: UnrollBatch, generator: torch.Generator, vision: Vision, memory: ValueEquivalent
    ) -> Losses:
        """Means over the moments that count (Schrittwieser et al. 2020, eq. 1), the first one as much as all the others
        together; what comes back through the dynamics is halved at each step (appendix G)."""
        policy, value, seen = self.targets(batch, generator)
        state = memory.initial(vision.encode(batch.observations[:, 0]), noise=generator)
        steps = batch.actions.shape[1]
        parts: defaultdict[str, list[Tensor]] = defaultdict(list)
        for moment in range(steps + 1):
            scale = 1.0 if moment == 0 else 1 / steps
            if moment > 0:
                state = memory.advance(
                    HiddenState(0.5 * state.hidden + 0.5 * state.hidden.detach()), batch.actions[:, moment - 1]
                )
                played = batch.played[:, moment - 1].float()
                rewards, ends = batch.rewards[:, moment - 1], batch.terminated[:, moment - 1]
                reward = memory.reward_head.loss(state.hidden, rewards)
                termination = memory.termination_head.loss(state.hidden, ends)
                parts["reward"].append(scale * masked_mean(reward, played))
                parts["termination"].append(scale * masked_mean(termination, played))
                if self.consistency is not None:
                    apart = self.consistency(state.hidden, seen[:, moment])
                    parts["consistency"].append(scale * masked_mean(apart, batch.seen[:, moment - 1].float()))
            acts = batch.acts[:, moment].float()
            surprise = -(policy[:, moment] * memory.prior(state).log_softmax(-1)).sum(-1)
            parts["policy"].append(scale * masked_mean(surprise, acts))
            missed = memory.value_head.loss(state.hidden, value[:, moment])
            # Searches look behind an end too, as far as it is not foreseen: there is nothing more to get
            counts = acts if moment == 0 else torch.maximum(acts, batch.terminated[:, moment - 1])
            parts["value"].append(scale * masked_mean(missed, counts))
        found = {name: torch.stack(losses).sum() for name, losses in parts.items()}
        weights = {"value": self._options.targets.value, "consistency": self._options.targets.consistency}
        total = torch.stack([weights.get(name, 1.0) * part for name, part in found.items()]).sum()
        return {"loss": total} | found

    @torch.no_grad()
    def targets(self, batch: UnrollBatch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """By the slow copy: policies of searches `[B, K + 1, n]`, n-step returns `[B, K + 1]`, and the states that are
        seen `[B, K + 1, H]`."""
        rows, moments = batch.acts.shape
        embedding = self.slow_vision.encode(batch.observations.flatten(0, 1))
        roots = self.slow_memory.initial(embedding, noise=generator)
        plan = self._planner.plan(self._searched, roots, noise=generator)
        assert plan.policy is not None
        ahead = self.slow_memory.initial(self.slow_vision.encode(batch.ahead.flatten(0, 1)), noise=generator)
        value = batch.returns + batch.weight * self.slow_memory.value(ahead).view(rows, moments)
        return plan.policy.float().view(rows, moments, -1), value, roots.hidden.view(rows, moments, -1)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the copies, each by its rate, towards what they are copies of."""
        for slow, fast, rate in self._followed:
            for kept, part in zip(slow.parameters(), fast.parameters(), strict=True):
                kept.lerp_(part, rate)

    @torch.no_grad()
    def measure(self, unrolls: Unrolls, *, seed: int) -> Scalars:
        """Of what is kept: losses on `_MEASURED` moments, the share of the rewards' variance that is explained at the
        last unrolled step, and how often the policy's likeliest action is that of the search."""
        (vision, memory), device = self.kept, self.memory.device
        batch = unrolls.draw(_MEASURED, np.random.default_rng([seed, 2**31])).to(device)
        losses = self.losses_of(batch, step_generator(seed, 2**31, device), vision, memory)
        scalars = {name: float(part) for name, part in losses.items()}
        policy, value, _ = self.targets(batch, step_generator(seed, 2**31, device))
        if (largest := float(value.abs().max())) > memory.value_head.largest:
            warnings.warn(
                f"values of up to {largest:.4g} are to be learned, and memory.support={self._options.memory.support} "
                f"reaches {memory.value_head.largest:.4g}: what is beyond looks alike to the search. Take a larger "
                "support, or a smaller discount",
                stacklevel=2,
            )
        state = memory.initial(vision.encode(batch.observations[:, 0]), noise=step_generator(seed, 0, device))
        same = (memory.prior(state).argmax(-1) == policy[:, 0].argmax(-1)).float()
        for step in range(batch.actions.shape[1]):
            state = memory.advance(state, batch.actions[:, step])
        played = batch.played[:, -1]
        rewards = batch.rewards[:, -1][played], memory.reward_head(state.hidden)[played]
        return scalars | {
            "agreement": float(same.mean()),
            "reward_r2": explained(*rewards) if bool(played.any()) else 0.0,
        }

    @torch.no_grad()
    def set_unit(self, unrolls: Unrolls, *, seed: int) -> None:
        """Set the unit in which errors of M's latents are given: their spread over moments of the data."""
        (vision, memory), device = self.kept, self.memory.device
        batch = unrolls.draw(_MEASURED, np.random.default_rng([seed, 2**31 + 1])).to(device)
        state = memory.initial(vision.encode(batch.observations[:, 0]), noise=step_generator(seed, 0, device))
        memory.latent_std.copy_(state.hidden.std(0).clamp(min=_LEAST_STD))


class ContinualValueEquivalent(ContinualFit):
    """V and M of MuZero that learn on while episodes come in; the learning rate is constant."""

    def __init__(self, job: Job[ValueEquivalentOptions], tensors: dict[str, Tensor] | None = None) -> None:
        self._options, self._seed, self._device = job.options, job.seed, job.device
        self._networks = Networks.of(job)
        self.vision, self.memory = self._networks.kept
        self.replayed = job.options.fit.batch_size
        self._optimiser = torch.optim.Adam(self._networks.parameters(), lr=job.options.fit.learning_rate)
        self._file = job.folder / "continual.safetensors"
        if tensors is None:
            self._networks.check_rewards(job.cache)
        self.take(job.cache)
        if tensors is not None:
            restore_training(tensors, self._networks, self._optimiser)

    def take(self, cache: EpisodeCache) -> None:
        with going_on():
            self._networks.check_rewards(cache)
        self._unrolls = self._networks.unrolls(cache)

    def update(self, step: int) -> tuple[Scalars, Replayed]:
        batch = self._networks.drawn(self._unrolls, step, self._seed)
        scalars = training_step(
            self._networks,
            lambda number: self._networks.losses(batch, number, self._seed),
            self._optimiser,
            step,
            self._device,
            torch.float32,
            self._options.fit.clip,
            self._file,
        )
        with torch.no_grad():
            seen = self.vision.encode(batch.observations[:, 0])
            noise = step_generator(self._seed, step, self._device)
            return scalars, Replayed(self.memory.initial(seen, noise=noise))

    def measure(self, cache: EpisodeCache) -> Scalars:
        return self._networks.measure(self._networks.unrolls(cache), seed=self._seed)

    def finish(self) -> None:
        self._networks.set_unit(self._unrolls, seed=self._seed)

    def tensors(self) -> dict[str, Tensor]:
        return training_tensors(self._networks, self._optimiser)
