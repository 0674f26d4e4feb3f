"""World models of small MDN-RNNs that can be saved, beside the fakes that the package ships."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import yaml

from dreamenv.bundle import StartStates
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.testing.fakes import (
    BOX,
    DISCRETE,
    LATENT_SIZE,
    CountingMemory,
    FakeState,
    NoisyMemory,
    draw_weights,
    fake_world_model,
    small_vae,
)
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.vision.identity import IdentityVision
from dreamenv.world_model import WorldModel

__all__ = [
    "BOX",
    "DISCRETE",
    "LATENT_SIZE",
    "CountingMemory",
    "FakeState",
    "NoisyMemory",
    "draw_weights",
    "fake_world_model",
    "trained_like_world_model",
    "write_registry",
]


def trained_like_world_model(
    *, action_space: gym.Space[Any] = BOX, image: bool = True, real: RealEnvSpec | None = None, latent_size: int = 4
) -> WorldModel:
    """A small MDN-RNN with fixed random weights, which can be saved; its mixtures are wide enough to be seen."""
    generator = torch.Generator().manual_seed(3)
    memory = MDNRNN(latent_size, action_space, hidden_size=8, mixtures=2)
    draw_weights(memory, generator)
    vision: Vision = small_vae(latent_size) if image else IdentityVision(latent_size)
    initial = torch.randn(6, latent_size, generator=generator)
    hidden = torch.randn(5, 8, generator=generator).tanh()
    replay = {"latent": initial[:5], "hidden": hidden, "cell": 2 * hidden, "dropout": torch.ones(5, 0)}
    return WorldModel(
        vision,
        memory,
        real or RealEnvSpec("CarRacing-v3", action_repeat=4),
        action_space,
        StartStates(initial, replay),
        max_episode_steps=20,
        temperature=1.1,
        provenance={"real_frames": 0},
    )


def write_registry(
    folder: Path,
    name: str,
    model: WorldModel,
    *,
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Save `model` under `folder` and write a registry.yaml that calls it `name`; `change` may alter the entry."""
    hashes = model.save(folder / "bundle")
    entry: dict[str, Any] = {
        "latent_id": name.replace("Dream", "Latent"),
        "checkpoint": "bundle",
        "sha256": hashes,
        "real": {"id": model.real.id, "action_repeat": model.real.action_repeat},
        "dream": {"max_episode_steps": model.max_episode_steps, "temperature": 1.25, "start": "replay"},
    }
    if change is not None:
        change(entry)
    path = folder / "registry.yaml"
    path.write_text(yaml.safe_dump({"format": 1, "environments": {name: entry}}), encoding="utf-8")
    return path
