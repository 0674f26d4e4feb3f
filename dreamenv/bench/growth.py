"""How the dream's speed grows: with latents, components and hidden units; and evolution's, with its length and size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from dreamenv.agents.options import PopulationOptions
from dreamenv.agents.population import initial_weights, score_population
from dreamenv.bench.bound import Work, memory_products, product_bound
from dreamenv.bench.cases import Case, stepping
from dreamenv.bundle import StartStates
from dreamenv.envs import DreamVectorEnv
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.noise.base import seeded_weights
from dreamenv.types import RealEnvSpec
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

# CarRacing's sizes, of which one is changed at a time
SIZES = {"latents": 32, "mixtures": 5, "hidden": 256}
CURVES = {"latents": (8, 32, 128), "mixtures": (1, 5, 20), "hidden": (64, 256, 1024)}
HORIZONS = (15, 60, 240)
POPULATIONS = (4, 16, 64, 256)
_ROWS = 256
_ROLLOUTS = 16
_SHORT = 15


def curve_cases(device: str, seed: int) -> Iterator[Case]:
    """Vector dreams of untrained models of growing size, and an evolution of growing horizon, in a batch that stays
    the same; and an evolution of growing population. Names are "curve latents 32" and the like."""
    for name, values in CURVES.items():
        for value in values:
            model = untrained_model(**(SIZES | {name: value}), device=device, seed=seed)
            bound = product_bound(memory_products(model.memory), _ROWS, device)
            yield Case(
                f"curve {name} {value}", _ROWS, device, stepping(DreamVectorEnv(model, _ROWS), _ROWS, seed), bound
            )
    model = untrained_model(**SIZES, device=device, seed=seed)
    for horizon in HORIZONS:
        yield Case(f"curve horizon {horizon}", _ROWS, device, _evolving(model, _ROWS // _ROLLOUTS, horizon, seed))
    products = memory_products(model.memory)
    for population in POPULATIONS:
        rows = population * _ROLLOUTS
        work = _evolving(model, population, _SHORT, seed)
        yield Case(f"curve population {population}", rows, device, work, product_bound(products, rows, device))


def untrained_model(*, latents: int, mixtures: int, hidden: int, device: str = "cpu", seed: int = 0) -> WorldModel:
    """A world model of these sizes with random weights, whose dreams do not end by themselves."""
    space = spaces.Box(-1.0, 1.0, (3,), np.float32)
    with seeded_weights(seed):
        memory = MDNRNN(latents, space, hidden_size=hidden, mixtures=mixtures)
    logit: Any = memory.termination_head.network[2]
    with torch.no_grad():
        logit.bias.fill_(-30.0)
    starts = StartStates(torch.randn(64, latents, generator=torch.Generator().manual_seed(seed)))
    real = RealEnvSpec("CarRacing-v3")
    return WorldModel(IdentityVision(latents), memory, real, space, starts, max_episode_steps=1000).to(device)


def _evolving(model: WorldModel, population: int, horizon: int, seed: int) -> Work:
    candidates = np.random.default_rng(seed).normal(scale=0.1, size=(population, *initial_weights(model).shape))
    options = PopulationOptions(_ROLLOUTS, horizon)

    def work() -> float:
        generator = torch.Generator(model.device).manual_seed(seed)
        score_population(model, candidates, options, generator=generator)
        return population * _ROLLOUTS * horizon

    return work
