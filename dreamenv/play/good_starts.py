"""Starts for people: moments from which one gets somewhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from dreamenv.agents.base import Agent
from dreamenv.envs.rollout import DreamRollout
from dreamenv.play.driver import AGENT, Driver
from dreamenv.world_model import WorldModel

# Kept are starts that are at least as good as this share of all, and an agent plays on from each to compare them
_AS_GOOD_AS = 0.75
_SECONDS = 4.0
_MOST_STARTS = 1024


@torch.no_grad()
def with_good_starts(model: WorldModel, agent: Agent, *, temperature: float) -> WorldModel:
    """`model`, its weights shared, with the best quarter of its "initial" start states, and those as good.

    A start is as good as the undiscounted return that `agent` gets in the first four seconds of a dream from it. Starts
    of exploration may lie off the road already, where a person who takes over can do nothing.

    Args:
        model: The model; of more than 1,024 starts the first 1,024 are compared and the others left out.
        agent: A trained agent for it, quick enough to be asked for so many rows at once.
        temperature: Of the dreams.
    """
    count = min(model.start_count("initial"), _MOST_STARTS)
    if count < 2:
        return model
    noise = torch.Generator(model.device).manual_seed(0)
    state = model.start(torch.arange(count, device=model.device), noise=noise)
    rollout = DreamRollout(model, count, observation="state", temperature=temperature)
    rollout.set_state(
        {
            "memory": state._asdict(),
            "noise_keys": np.arange(count, dtype=np.uint64),
            "elapsed": np.zeros(count, np.int64),
            "returns": np.zeros(count),
            "last_reward": np.zeros(count),
        }
    )
    driver = Driver(model, agent, wheel=AGENT)
    driver.begin(count)
    alive = np.ones(count, np.bool_)
    gained = np.zeros(count)
    for _ in range(round(_SECONDS * model.real.steps_per_second)):
        if not alive.any():
            break
        seen = model.memory_state(torch.from_numpy(rollout.observations()).to(model.device))
        result = rollout.step(driver.actions(seen), alive)
        gained += np.where(alive, result.reward, 0.0)
        alive &= ~result.terminated
    kept = torch.from_numpy((gained >= np.quantile(gained, _AS_GOOD_AS)).nonzero()[0]).to(model.device)
    starts = model.starts
    if starts.settled:
        starts = dataclasses.replace(starts, settled={name: part[kept] for name, part in starts.settled.items()})
    else:
        starts = dataclasses.replace(starts, first=starts.first[kept])
    return model.with_starts(starts)
