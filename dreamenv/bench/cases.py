"""What the benchmark measures: pieces of work, each a call, and the bound beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from dreamenv import registration
from dreamenv.agents.options import PopulationOptions
from dreamenv.agents.population import initial_weights, score_population
from dreamenv.bench.bound import Work, arithmetic_bound, dreamed_products, layer_products, product_bound
from dreamenv.data.preprocess import make_real_env
from dreamenv.envs import DreamVectorEnv
from dreamenv.errors import ConfigurationError
from dreamenv.memory.base import MemoryModel, Prediction, Stepper
from dreamenv.noise.base import Noise
from dreamenv.world_model import WorldModel

NUM_ENVS = (1, 16, 64, 256, 1024, 4096)
_PICTURES = 64
_LEAST_COMPILED = 256
ACTION_BATCHES = 16


@dataclass
class Case:
    """One case: `work` does `num_envs` dreams, rollouts or pictures a call, or one real step.

    Attributes:
        name, num_envs, device: As in the row.
        work: What is measured.
        bound: The model's products alone, None where there are none.
        frames_per_step: Real frames a step so far, of the real environment only.
    """

    name: str
    num_envs: int
    device: str
    work: Work
    bound: Work | None = None
    frames_per_step: Callable[[], float] | None = None


def real_case(model: WorldModel, seed: int, closing: list[Callable[[], Any]]) -> Case:
    """The real environment under random actions; `closing` gets what ends it."""
    env = make_real_env(model.real)
    closing.append(env.close)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    counted = {"steps": 0, "frames": 0}

    def work() -> int:
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        counted["steps"] += 1
        counted["frames"] += info["real_frames"]
        if terminated or truncated:
            env.reset()
        return 1

    return Case("real", 1, "cpu", work, frames_per_step=lambda: counted["frames"] / counted["steps"])


def dream_cases(
    source: WorldModel | str | Path,
    model: WorldModel,
    most_envs: int,
    seed: int,
    closing: list[Callable[[], Any]],
    *,
    compiled: bool = False,
) -> Iterator[Case]:
    """The scalar form as `gym.make` gives it, and the vector form at every batch up to `most_envs`; with `compiled`
    also the compiled step in bfloat16, at the batches for which it is meant."""
    products = dreamed_products(model.memory, model.action_space)
    device = str(model.device)
    scalar = _scalar_env(source, model)
    closing.append(scalar.close)
    scalar.action_space.seed(seed)
    actions = [scalar.action_space.sample() for _ in range(ACTION_BATCHES)]
    scalar.reset(seed=seed)
    turn = {"scalar": 0}

    def step() -> int:
        turn["scalar"] += 1
        _, _, terminated, truncated, _ = scalar.step(actions[turn["scalar"] % len(actions)])
        if terminated or truncated:
            scalar.reset()
        return 1

    yield Case("dream gym.make", 1, device, step, product_bound(products, 1, device))
    for name, precision in _precisions(model):
        for count in (n for n in NUM_ENVS if n <= most_envs):
            work = stepping(DreamVectorEnv(model, count, precision=precision), count, seed)
            yield Case(f"dream vector{name}", count, device, work, product_bound(products, count, device))
    for count in (n for n in NUM_ENVS if compiled and _LEAST_COMPILED <= n <= most_envs):
        work = stepping(DreamVectorEnv(model, count, precision="bfloat16", compiled=True), count, seed)
        yield Case("dream vector compiled bf16", count, device, work, product_bound(products, count, device))


def _precisions(model: WorldModel) -> list[tuple[str, str]]:
    """What a case's name ends with, and the precision; bfloat16 where the model can dream in it."""
    try:
        model.memory.stepper(2, precision="bfloat16")
    except ConfigurationError:
        return [("", "auto")]
    return [("", "auto"), (" fp32", "float32"), (" bf16", "bfloat16")]


def _scalar_env(source: WorldModel | str | Path, model: WorldModel) -> gym.Env[Any, Any]:
    """The scalar dream as a user gets it: by its id where it has one, and else under the same time limit."""
    if isinstance(source, str) and source in gym.registry:
        return gym.make(source, device=str(model.device))
    spec = gym.envs.registration.EnvSpec(
        "DreamBench-v0", entry_point=registration.DREAM_ENTRY_POINT, max_episode_steps=model.max_episode_steps
    )
    return gym.make(spec, world_model=model)


def stepping(envs: Any, count: int, seed: int) -> Work:
    """Steps a vector environment of `count` with random actions that are drawn beforehand."""
    envs.action_space.seed(seed)
    actions = [envs.action_space.sample() for _ in range(ACTION_BATCHES)]
    envs.reset(seed=seed)
    turn = 0

    def work() -> int:
        nonlocal turn
        turn += 1
        envs.step(actions[turn % len(actions)])
        return count

    return work


def evolution_case(model: WorldModel, population: int, rollouts: int, horizon: int, seed: int) -> Case:
    """A population of random linear controllers, scored in one batched dream."""
    rng = np.random.default_rng(seed)
    weights = initial_weights(model)
    candidates = rng.normal(scale=0.1, size=(population, *weights.shape))
    options = PopulationOptions(rollouts, horizon)

    def run(scored: WorldModel) -> None:
        generator = torch.Generator(model.device).manual_seed(seed)
        score_population(scored, candidates, options, generator=generator)

    counter = LivingRows(model.memory)
    counted = copy.copy(model)
    counted.memory = counter.memory
    run(counted)
    device = str(model.device)
    rows = population * rollouts
    products = [*dreamed_products(model.memory, model.action_space), (1, weights.shape[1] - 1, weights.shape[0])]

    def work() -> int:
        run(model)
        return counter.lived

    return Case("evolution", rows, device, work, product_bound(products, rows, device) if len(products) > 1 else None)


class LivingRows:
    """A memory model that shares all weights with another and counts the steps of dreams that had not ended.

    Attributes:
        memory: The model.
        lived: Steps so far.
    """

    def __init__(self, memory: MemoryModel[Any]) -> None:
        self.memory = copy.copy(memory)
        self.lived = 0
        self._alive = torch.ones(0, dtype=torch.bool)
        stepper = _LivingRowsStepper(self, memory)
        self.memory.stepper = lambda rows, *, precision="auto", compiled=False: stepper  # type: ignore[method-assign]

    def count(self, prediction: Prediction) -> None:
        """Count the rows of a step that had not ended before it."""
        rows = len(prediction.terminated)
        if len(self._alive) != rows:  # ended rows have just left, so all that remain live
            self._alive = torch.ones(rows, dtype=torch.bool, device=prediction.terminated.device)
        self.lived += int(self._alive.sum())
        self._alive = self._alive & ~prediction.terminated


class _LivingRowsStepper(Stepper[Any]):
    def __init__(self, counter: LivingRows, memory: MemoryModel[Any]) -> None:
        self.memory = memory
        self._counter, self._stepper = counter, memory.stepper(2)

    def __call__(
        self, state: Any, action: Tensor, *, noise: torch.Generator | Noise, temperature: float = 1.0
    ) -> tuple[Any, Prediction]:
        state, prediction = self._stepper(state, action, noise=noise, temperature=temperature)
        self._counter.count(prediction)
        return state, prediction


def picture_cases(model: WorldModel, seed: int) -> list[Case]:
    """Decoding and encoding of a batch of pictures."""
    generator = torch.Generator(model.device).manual_seed(seed)
    device = str(model.device)
    latents = torch.randn(_PICTURES, model.vision.latent_size, generator=generator, device=device)

    with torch.inference_mode():
        pictures = model.vision.decode_uint8(latents)
        decoding = layer_products(lambda: model.vision.decode(latents[:1]), model.vision)
        encoding = layer_products(lambda: model.vision.encode(pictures[:1]), model.vision)

    def decode() -> int:
        with torch.inference_mode():
            model.vision.decode_uint8(latents)
        return _PICTURES

    def encode() -> int:
        with torch.inference_mode():
            model.vision.encode(pictures)
        return _PICTURES

    return [
        Case("decode", _PICTURES, device, decode, arithmetic_bound(decoding, device)),
        Case("encode", _PICTURES, device, encode, arithmetic_bound(encoding, device)),
    ]
