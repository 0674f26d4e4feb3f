"""Hashes of what the package computes from fixed seeds: `python -m tests.golden_values` writes those of this processor.

Rounding differs between processors and versions of torch, so that hashes are kept for each kind by itself.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

import dreamenv
from dreamenv.agents.evolution import evolve
from dreamenv.agents.options import EvolutionOptions, PopulationOptions
from dreamenv.agents.population import score_population, weight_shape
from dreamenv.data.collect import collect
from dreamenv.training.pipeline import TrainOptions, train
from dreamenv.types import RealEnvSpec
from dreamenv.world_model import WorldModel

FILE = Path(__file__).with_name("golden_values.json")
DREAMS = ("DreamCarRacing-v0", "DreamDoom-v0")
TRAIN = TrainOptions(
    "mdn_rnn",
    {
        "memory": {"hidden_size": 16, "mixtures": 2},
        "fit_memory": {
            "steps": 12,
            "validate_every": 4,
            "batch_size": 4,
            "sequence_length": 16,
            "precision": "float32",
        },
    },
    replay_starts=12,
    seed=3,
)


class _Killed(Exception):
    pass


def processor() -> str:
    """What decides how a product is rounded: vendor, vector units, torch and NumPy."""
    vendor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^vendor_id\s*: (\S+)", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
        vendor = found[1] if found else vendor
    units = torch.backends.cpu.get_cpu_capability()
    amx = bool(torch.cpu.get_capabilities().get("amx_bf16")) if hasattr(torch.cpu, "get_capabilities") else False
    return f"{vendor} {units}{' AMX' if amx else ''}, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}"


def _digest(*parts: np.ndarray) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()[:16]


def scalar_dream(dream: str) -> str:
    env = gym.make(dream)
    seen = [env.reset(seed=5)[0]]
    env.action_space.seed(5)
    for _ in range(60):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen += [observation, np.float64(reward)]
        if terminated or truncated:
            seen.append(env.reset()[0])
    env.close()
    return _digest(*map(np.asarray, seen))


def vector_dream(dream: str) -> str:
    envs = gym.make_vec(dream, num_envs=24, precision="float32", max_episode_steps=40)
    seen = [envs.reset(seed=6)[0]]
    envs.action_space.seed(6)
    for _ in range(60):
        seen += envs.step(envs.action_space.sample())[:4]
    envs.close()
    return _digest(*seen)


def pictures(dream: str) -> str:
    envs = gym.make_vec(dream, num_envs=3, observation="pixels", start="replay")
    seen = [envs.reset(seed=7)[0]]
    envs.action_space.seed(7)
    seen += [envs.step(envs.action_space.sample())[0] for _ in range(5)]
    envs.close()
    return _digest(*seen)


def population(dream: str) -> str:
    model = WorldModel.load(dream)
    weights = np.random.default_rng(8).normal(scale=0.1, size=(6, *weight_shape(model)))
    options = PopulationOptions(rollouts=4, horizon=40, precision="float32")
    scored = score_population(model, weights, options, generator=torch.Generator().manual_seed(8))
    return _digest(scored.numpy())


def evolution(dream: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        options = EvolutionOptions(generations=2, population=6, rollouts=4, horizon=30)
        found = evolve(WorldModel.load(dream), out_dir=folder, options=options, seed=9)
        return _digest(found.agent.weights)


def resumed_training(env_id: str) -> str:
    """A training that is killed behind its first checkpoint and then continued."""
    real = RealEnvSpec(env_id, max_episode_steps=30)

    def kill(stage: str, step: int, steps: int, scalars: dict[str, float]) -> None:
        if stage == "memory" and step == 4:
            raise _Killed

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        collect(real, run / "episodes", episodes=4, workers=0, seed=1)
        try:
            train(real, run, TRAIN, tensorboard=False, progress=kill)
        except _Killed:
            pass
        model = train(real, run, TRAIN, tensorboard=False)
    parts = {**model.memory.state_dict(), **{f"replay.{k}": v for k, v in model.starts.replay.items()}}
    return _digest(*(parts[name].numpy() for name in sorted(parts)))


CASES: dict[str, Callable[[], str]] = {
    **{
        f"{case.__name__} {dream}": lambda case=case, dream=dream: case(dream)  # type: ignore[misc]
        for case in (scalar_dream, vector_dream, pictures, population, evolution)
        for dream in DREAMS
    },
    **{f"resumed_training {env}": lambda env=env: resumed_training(env) for env in ("Pendulum-v1", "CartPole-v1")},  # type: ignore[misc]
}


def compute(case: str) -> str:
    """Sixteen hexadecimal digits of a case, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return CASES[case]()
    finally:
        torch.set_num_threads(threads)


def main() -> None:
    assert dreamenv.__version__
    kept = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    kept[processor()] = {case: compute(case) for case in CASES}
    FILE.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    print(f"{len(CASES)} values of {processor()} in {FILE.name}", file=sys.stderr)


if __name__ == "__main__":
    main()
