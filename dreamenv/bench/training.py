"""How fast V and M learn: optimiser steps on made-up episodes, their input pipeline included."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import nn

from dreamenv.bench.bound import Work, arithmetic_bound, layer_products, memory_products, product_bound
from dreamenv.bench.cases import Case
from dreamenv.data.episodes import EpisodeCache
from dreamenv.noise.base import step_generator
from dreamenv.training.fit import Losses, training_step
from dreamenv.training.recipes.joint import JointModel, LossOptions
from dreamenv.training.replay import Replay, ReplayBatch
from dreamenv.training.sequences import LatentEpisodes, SequenceSampler
from dreamenv.training.steps import RepeatedStep, Tensors
from dreamenv.vision.base import Vision
from dreamenv.world_model import WorldModel

# Kinds of vision that have a loss of their own, and of memory that have one over sequences of latents
_FITTED_ALONE, _FITTED_TO_SEQUENCES = {"conv_vae"}, {"mdn_rnn"}
# Kinds of vision and memory that have one loss, without convolutions
_FITTED_TOGETHER = {("symlog_mlp", "rssm")}
_EPISODES = 16
# Of an RSSM: windows and their moments
_WINDOWS, _MOMENTS = 16, 64
_PRECISIONS = {"": torch.float32, " bf16": torch.bfloat16}


def training_cases(
    model: WorldModel, seed: int, *, pictures: int = 64, sequences: int = 32, length: int = 128
) -> list[Case]:
    """Training of copies of V (a step is a picture) and M (a step is a transition), in float32 and bfloat16; of an RSSM
    over vectors both together (a step is a moment), in float32.

    The bound counts each multiplication of a forward pass three times: a backward pass has two products for each, one
    for the inputs and one for the weights. Of the LSTM it takes all steps of a sequence for one product, which no
    training can: each step needs the hidden state before it.

    Args:
        model: Gives the sizes.
        seed: Of the episodes and the batches.
        pictures: Batch of V.
        sequences, length: Batch of M.
    """
    device = str(model.device)
    cases = []
    for name, dtype in _PRECISIONS.items():
        if model.vision.config()["kind"] in _FITTED_ALONE:
            bound = arithmetic_bound(_forward_products(model.vision, device) * 3, device)
            cases.append(Case(f"train V{name}", pictures, device, _vision_steps(model, dtype, seed, pictures), bound))
        if model.memory.config()["kind"] in _FITTED_TO_SEQUENCES:
            work = _memory_steps(model, dtype, seed, sequences, length)
            products = product_bound(memory_products(model.memory) * 3, sequences * length, device)
            cases.append(Case(f"train M{name}", sequences, device, work, products))
    joint = _joint_model(model)
    if joint is not None:
        step = _WINDOWS * _MOMENTS
        products = product_bound(memory_products(joint) * 3, step, device)
        cases.append(Case("train V and M", _WINDOWS, device, _joint_steps(model, joint, seed), products))
    return cases


def _joint_model(model: WorldModel) -> JointModel | None:
    """A copy of an RSSM and of its V, as they are fitted together; None where there are convolutions, or no RSSM."""
    memory: Any = model.memory
    vision: Any = model.vision
    if vision.config()["kind"] == "stacked":
        vision = vision.outer
    if (vision.config()["kind"], memory.config()["kind"]) not in _FITTED_TOGETHER:
        return None
    return JointModel(copy.deepcopy(vision), copy.deepcopy(memory)).train().requires_grad_(True)


def _forward_products(vision: Vision, device: str) -> list[tuple[int, int, int]]:
    picture = torch.zeros(1, *vision.observation_shape, dtype=torch.uint8, device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.inference_mode():
        return layer_products(lambda: vision.loss(picture, generator=generator), vision)


def _vision_steps(model: WorldModel, dtype: torch.dtype, seed: int, pictures: int) -> Work:
    vision = copy.deepcopy(model.vision)
    cache = _episodes(model, np.random.default_rng(seed), pictures)

    def losses(step: int) -> dict[str, torch.Tensor]:
        rows = np.random.default_rng([seed, step]).integers(len(cache.observations), size=pictures)
        frames = torch.from_numpy(cache.observations[rows]).to(model.device)
        return vision.loss(frames, generator=step_generator(seed, step, model.device))

    return _steps(vision, losses, dtype, float(pictures))


def _memory_steps(model: WorldModel, dtype: torch.dtype, seed: int, sequences: int, length: int) -> Work:
    memory: Any = copy.deepcopy(model.memory)
    rng = np.random.default_rng(seed)
    cache = _episodes(model, rng, length)
    shape = (len(cache.observations), memory.latent_size)
    latents = LatentEpisodes(rng.normal(size=shape).astype(np.float32), np.full(shape, 0.1, np.float32))
    sampler = SequenceSampler(cache, latents, np.arange(_EPISODES), length=length, burn_in=8, latents_as="denoise")

    def losses(step: int) -> dict[str, torch.Tensor]:
        batch = sampler.draw(sequences, np.random.default_rng([seed, step]), step_generator(seed, step))
        found: dict[str, torch.Tensor] = memory.loss(
            batch.to(model.device), generator=step_generator(seed, step, model.device)
        )
        return found

    return _steps(memory, losses, dtype, float(sequences * length))


def _joint_steps(model: WorldModel, joint: JointModel, seed: int) -> Work:
    """Windows as a loop that learns continually takes them; on a GPU its steps are recorded."""
    rng = np.random.default_rng(seed)
    cache = _episodes(model, rng, _MOMENTS)
    shape = (len(cache.observations), *joint.vision.observation_shape)
    cache = replace(cache, observations=rng.normal(size=shape).astype(np.float32))
    replay, options = Replay(cache, np.arange(_EPISODES), length=_MOMENTS), LossOptions()

    def losses(inputs: Tensors, generator: torch.Generator) -> tuple[Losses, Tensors]:
        return joint.loss(ReplayBatch(*inputs), options, generator), ()

    step = RepeatedStep(
        joint, losses, learning_rate=1e-4, device=model.device, clip=100.0, checkpoint=Path("checkpoint.safetensors")
    )
    counter = itertools.count()

    def work() -> float:
        number = next(counter)
        batch = replay.draw(_WINDOWS, np.random.default_rng([seed, number]))
        step(tuple(vars(batch).values()), seed=seed, step=number)
        return float(_WINDOWS * _MOMENTS)

    return work


def _steps(module: nn.Module, losses: Any, dtype: torch.dtype, worth: float) -> Work:
    module.train().requires_grad_(True)
    device = next(module.parameters()).device
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-4)
    counter = itertools.count()

    def work() -> float:
        training_step(module, losses, optimiser, next(counter), device, dtype, 100.0, Path("checkpoint.safetensors"))
        return worth

    return work


def _episodes(model: WorldModel, rng: np.random.Generator, length: int) -> EpisodeCache:
    """Episodes of `length` random pictures and actions."""
    steps = _EPISODES * length
    shape = (steps + _EPISODES, *model.vision.observation_shape)
    if model.vision.is_image:
        observations: NDArray[Any] = rng.integers(256, size=shape, dtype=np.uint8)
    else:
        observations = np.zeros(shape, np.float32)
    space = model.action_space
    if isinstance(space, spaces.Discrete):
        actions: NDArray[Any] = rng.integers(space.start, space.start + space.n, size=steps)
    else:
        assert isinstance(space, spaces.Box)
        actions = rng.uniform(space.low, space.high, size=(steps, *space.shape)).astype(np.float32)
    whole = np.ones(_EPISODES, np.bool_)
    return EpisodeCache(
        observations=observations,
        actions=actions,
        rewards=rng.normal(size=steps).astype(np.float32),
        first=np.arange(_EPISODES) * (length + 1),
        lengths=np.full(_EPISODES, length),
        terminated=~whole,
        final_valid=whole,
    )
