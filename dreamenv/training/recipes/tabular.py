"""The model of Dyna-Q (Sutton & Barto 2018, section 8.2): a table of what has followed what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from dreamenv.data.split import held_out_episodes
from dreamenv.errors import ConfigurationError
from dreamenv.memory.tabular import TabularMemory
from dreamenv.training.explained import explained
from dreamenv.training.fit import Scalars
from dreamenv.training.recipes.base import Fitted, Job, Recipe
from dreamenv.training.sequences import encode_episodes
from dreamenv.training.transitions import Transitions
from dreamenv.vision.identity import IdentityVision

_STEPS_BETWEEN_REPORTS = 1000


@dataclass(frozen=True)
class TabularOptions:
    """Counting has no hyperparameters."""


class TabularRecipe(Recipe[TabularOptions]):
    """Counted transitions of an environment whose observations are one-hot, such as FrozenLake's.

    Stage: "memory", in real steps. There are no checkpoints: counting starts anew and takes seconds, and all episodes
    are counted, so that a model to begin with adds nothing.
    """

    options_type = TabularOptions

    def check_spaces(
        self, observation_space: gym.Space[Any], action_space: gym.Space[Any], options: TabularOptions
    ) -> None:
        _discrete(action_space)

    def fit(self, job: Job[TabularOptions]) -> Fitted:
        space = _discrete(job.action_space)
        vision = IdentityVision(_states(job))
        memory = TabularMemory(vision.latent_size, space)
        latents = encode_episodes(vision, job.cache)
        aside = held_out_episodes(job.cache)
        training = Transitions.of_episodes(job.cache, latents, ~aside)
        for number, step in enumerate(_steps(training), 1):
            memory.count(*step)
            if number % _STEPS_BETWEEN_REPORTS == 0 or number == len(training):
                job.progress("memory", number, len(training), {})
        held_out = _held_out(memory, Transitions.of_episodes(job.cache, latents, aside), int(space.start))
        if job.recorder is not None:
            job.recorder.scalars("memory", len(training), {f"held_out/{key}": value for key, value in held_out.items()})
        return Fitted(vision, memory.to(job.device), held_out, latents.embed)


def _discrete(space: gym.Space[Any]) -> spaces.Discrete:
    if not isinstance(space, spaces.Discrete):
        raise ConfigurationError(f"a table takes Discrete actions, got {space}")
    return space


def _states(job: Job[TabularOptions]) -> int:
    """How many states there are, all of them one-hot."""
    seen = job.cache.observations
    if seen.ndim != 2 or not (((seen == 0) | (seen == 1)).all() and (np.sum(seen, axis=1) == 1).all()):
        raise ConfigurationError(
            f"a table takes one-hot observations; {job.real.id} shows others ({seen.shape[1:]}, {seen.dtype}). "
            "Use the recipe 'mdn_rnn' or 'ensemble'."
        )
    return int(seen.shape[1])


def _steps(data: Transitions) -> zip[tuple[int, int, float, int, bool]]:
    places, following = data.latents.argmax(1).tolist(), data.next_latents.argmax(1).tolist()
    return zip(places, data.actions.tolist(), data.rewards.tolist(), following, data.terminated.tolist(), strict=True)


@torch.no_grad()
def _held_out(memory: TabularMemory, data: Transitions, first_action: int) -> Scalars:
    """Figures on held-out episodes: `tried`, the share of steps whose state and action have been counted;
    `likelihood`, the mean probability of the state that followed; `reward_r2`."""
    latents, actions, following = (torch.from_numpy(part) for part in (data.latents, data.actions, data.next_latents))
    noise = torch.Generator().manual_seed(0)
    _, prediction = memory.observe(memory.initial(latents, noise=noise), actions, following, noise=noise)
    counts = memory.counts[latents.argmax(1), actions - first_action].double()
    total = counts.sum(1)
    likelihood = counts.gather(1, following.argmax(1, keepdim=True)).squeeze(1) / total.clamp(min=1)
    return {
        "tried": float((total > 0).double().mean()),
        "likelihood": float(likelihood.mean()),
        "reward_r2": explained(torch.from_numpy(data.rewards), prediction.reward),
    }
