"""What is fuzzed: inputs as the package writes them, and how each is read."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dreamenv import registry
from dreamenv.agents.controller import LinearController
from dreamenv.agents.evolution_state import EvolutionState, Generation
from dreamenv.agents.resolve import load_agent
from dreamenv.agents.saved import save_agent
from dreamenv.data.collect import check_collected, collect, is_unfinished
from dreamenv.data.episode_file import read_episode
from dreamenv.data.episodes import EpisodeStore, build_cache
from dreamenv.errors import ConfigurationError
from dreamenv.files import write_json
from dreamenv.serve.messages import read_message
from dreamenv.training.checkpoint import load_tensors, save_tensors
from dreamenv.training.ledger import read_ledger, record_frames
from dreamenv.types import RealEnvSpec
from dreamenv.workflows.loop import read_rounds
from dreamenv.world_model import WorldModel
from tests.damage import edit_config, edit_sealed
from tests.fakes import trained_like_world_model, write_registry
from tests.fuzz.damage import damaged_bytes, damaged_value

PENDULUM = RealEnvSpec("Pendulum-v1", max_episode_steps=20)
Rng = np.random.Generator


@dataclass(frozen=True)
class Subject:
    """One kind of input.

    Attributes:
        files: What is damaged, one file at a time.
        read: Reads all of it; returns what was found, as something that can be compared.
        damage: Damages one file; bytes by default.
        guarded: A sum exists, so that nothing but what was written may come back.
    """

    files: tuple[Path, ...]
    read: Callable[[], Any]
    damage: Callable[[Path, Rng], None] = field(default=lambda file, rng: damage_bytes(file, rng))
    guarded: bool = True


def damage_bytes(file: Path, rng: Rng) -> None:
    file.write_bytes(damaged_bytes(file.read_bytes(), rng))


def damage_json(file: Path, rng: Rng) -> None:
    """Another value in a JSON file, or other bytes."""
    if rng.integers(3) == 0:
        damage_bytes(file, rng)
        return
    text = json.dumps(damaged_value(json.loads(file.read_text(encoding="utf-8")), rng))
    file.write_text(text, encoding="utf-8", errors="surrogatepass")


def subjects(folder: Path) -> dict[str, Subject]:
    """All kinds by name, their files within `folder`."""
    found: dict[str, Subject] = {}
    for make in (_bundles, _agents, _registries, _data, _checkpoints, _records, _messages, _zips):
        found |= make(folder)
    return found


def _model_read(folder: Path) -> Any:
    model = WorldModel.load(folder)
    rest = model.real.to_json(), str(model.action_space), model.max_episode_steps, model.temperature, model.provenance
    return model.fingerprint(), model.memory.config(), model.vision.config(), rest


def _bundles(folder: Path) -> dict[str, Subject]:
    model = trained_like_world_model(image=False)
    bytes_of, values_of = folder / "bundle", folder / "bundle_values"
    model.save(bytes_of)
    model.save(values_of)

    def values(file: Path, rng: Rng) -> None:
        def change(config: dict[str, Any]) -> None:
            damaged = damaged_value(config, rng)
            if isinstance(damaged, dict):
                config.clear()
                config.update(damaged)

        edit_config(file.parent, change)

    names = ("config.json", "model.safetensors", "starts.safetensors")
    return {
        "bundle": Subject(tuple(bytes_of / name for name in names), partial(_model_read, bytes_of)),
        "bundle, sums made anew": Subject(
            (values_of / "config.json",), partial(_model_read, values_of), values, guarded=False
        ),
    }


def _agents(folder: Path) -> dict[str, Subject]:
    model = trained_like_world_model(image=False)
    weights = np.random.default_rng(0).normal(size=(2, model.memory.feature_size + 1))
    agent = LinearController(weights, model.observation_space(), model.action_space, provenance={"real_frames": 3})
    files = [save_agent(agent, folder / name / "agent.safetensors") for name in ("agent", "agent_values")]

    def read(file: Path) -> Any:
        found = load_agent(file)
        parts = {name: part.tolist() for name, part in found.tensors().items()}
        return parts, found.config(), str(found.action_space), found.provenance

    def values(file: Path, rng: Rng) -> None:
        def change(metadata: dict[str, str]) -> None:
            name = sorted(metadata)[int(rng.integers(len(metadata)))]
            try:
                metadata[name] = json.dumps(damaged_value(json.loads(metadata[name]), rng))
            except ValueError:
                metadata[name] = damaged_bytes(metadata[name].encode(), rng).decode("utf-8", "replace")

        edit_sealed(file, metadata=change)

    return {
        "agent": Subject((files[0],), partial(read, files[0])),
        "agent, sums made anew": Subject((files[1],), partial(read, files[1]), values, guarded=False),
    }


def _registries(folder: Path) -> dict[str, Subject]:
    file = write_registry(folder / "registered", "DreamFuzz-v0", trained_like_world_model(image=False))

    def read() -> Any:
        return {name: entry.section.model_dump_json() for name, entry in registry.read_registry(file).items()}

    return {"registry": Subject((file,), read, guarded=False)}


def _data(folder: Path) -> dict[str, Subject]:
    store = EpisodeStore(folder / "run" / "episodes")
    collect(PENDULUM, store.path, episodes=2, workers=0)
    episode, record = store.files()[0], store.path / "collection.json"
    cached, cache = EpisodeStore(folder / "cached" / "episodes"), folder / "cached" / "cache"
    collect(PENDULUM, cached.path, episodes=2, workers=0)
    build_cache(cached, cache)

    def read() -> Any:
        found = read_episode(episode)
        arrays = found.observations.tobytes(), found.actions.tobytes(), found.rewards.tobytes()
        return arrays, found.seed, found.policy, found.terminated, found.truncated, found.real_frames

    def read_cache() -> Any:
        found = build_cache(cached, cache)
        return np.array(found.observations).tobytes(), found.actions.tobytes(), found.rewards.tobytes()

    def read_record() -> Any:
        try:
            check_collected(store.path, PENDULUM)
        except ConfigurationError:
            return "other"
        return is_unfinished(store.path)

    return {
        "episode": Subject((episode,), read),
        "cache of episodes": Subject(tuple(sorted(cache.iterdir())), read_cache),
        "record of a collection": Subject((record,), read_record, damage_json, guarded=False),
    }


def _checkpoints(folder: Path) -> dict[str, Subject]:
    file = folder / "checkpoint.safetensors"
    save_tensors(file, {"model.weight": torch.arange(64.0), "adam.0.step": torch.tensor(3.0)}, {"step": 3})
    state = EvolutionState(
        {"seed": 0}, [np.arange(4.0)], [Generation(1, 0.5, 1.0, 0.25, 0.1)], elapsed=1.0, precision="float32"
    )
    evolved = folder / "evolved"
    evolved.mkdir()
    state.save(evolved)

    def read() -> Any:
        tensors, record = load_tensors(file)
        return {name: part.tolist() for name, part in tensors.items()}, record

    def read_evolved() -> Any:
        found = EvolutionState.resume(evolved, {"seed": 0})
        return found.settings, [row.tolist() for row in found.fitness], found.history, found.elapsed

    return {
        "checkpoint of training": Subject((file,), read),
        "checkpoint of evolution": Subject((evolved / "evolution.safetensors",), read_evolved),
    }


def _records(folder: Path) -> dict[str, Subject]:
    run = folder / "loop"
    record_frames(run, "collect", 1000)
    row = {
        "number": 0, "real_frames": 9, "collected_return": 1.0, "dream_mean": 1.5, "real_mean": 2.0, "real_std": 0.0,
        "held_out": {"reward_r2": 0.5}, "gap": {},
    }  # fmt: skip
    write_json(run / "rounds.json", [row, row | {"number": 1}])
    return {
        "ledger": Subject((run / "ledger.json",), lambda: read_ledger(run), damage_json, guarded=False),
        "table of rounds": Subject((run / "rounds.json",), lambda: read_rounds(run), damage_json, guarded=False),
    }


def _messages(folder: Path) -> dict[str, Subject]:
    file = folder / "message.json"
    sent = (
        {"type": "keys", "keys": ["LEFT", "UP"]}, {"type": "temperature", "temperature": 1.15}, {"type": "reset"},
        {"type": "latent", "index": 3, "value": 0.5}, {"type": "world", "world": "real"},
    )  # fmt: skip
    write_json(file, sent[0])

    def damage(file: Path, rng: Rng) -> None:
        file.write_text(json.dumps(sent[int(rng.integers(len(sent)))]), encoding="utf-8")
        damage_json(file, rng)

    return {"message of the page": Subject((file,), lambda: read_message(file.read_bytes()), damage, guarded=False)}


def _zips(folder: Path) -> dict[str, Subject]:
    """The part of a model of stable-baselines3 that is read before anything is unpickled."""
    from dreamenv.sb3.models import _writers

    file = folder / "model.zip"
    settings = {
        "policy_class": {}, "observation_space": {}, "action_space": {}, "policy_kwargs": {}, "clip_range": 0.2,
        "n_epochs": 3,
    }  # fmt: skip
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", json.dumps(settings))
        archive.writestr("policy.pth", b"weights" * 50)
    return {"model of stable-baselines3": Subject((file,), lambda: _writers(file), guarded=False)}
