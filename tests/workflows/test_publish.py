"""Publishing a run: bundle, agent and card in the checkpoint's folder, hashes in the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv import registry
from dreamenv.agents import LinearController, load_agent, save_agent, weight_shape
from dreamenv.bundle import StartStates
from dreamenv.errors import BundleError, ConfigurationError, RegistryError, UnknownDreamError
from dreamenv.files import sha256_of
from dreamenv.memory.base import MemoryModel
from dreamenv.memory.ensemble.model import ProbabilisticEnsemble
from dreamenv.memory.mdn_rnn.model import MDNRNN
from dreamenv.memory.rssm.model import RSSM
from dreamenv.memory.tabular import TabularMemory
from dreamenv.types import RealEnvSpec
from dreamenv.vision.base import Vision
from dreamenv.vision.identity import IdentityVision
from dreamenv.vision.joint import SymlogMLP
from dreamenv.workflows.publish import MOST_STARTS, publish_bundle
from dreamenv.world_model import WorldModel

ACTIONS = spaces.Discrete(2)
MEMORIES: dict[str, tuple[MemoryModel[Any], list[str]]] = {
    "mdn_rnn": (MDNRNN(4, ACTIONS, hidden_size=6, mixtures=2), ["hidden_size: 6", "mixtures: 2"]),
    "probabilistic_ensemble": (ProbabilisticEnsemble(4, ACTIONS, members=3, elites=2), ["members: 3", "elites: 2"]),
    "tabular": (TabularMemory(4, ACTIONS), ["latent_size: 4"]),
}
SCORE: dict[str, Any] = {
    "real_id": "CartPole-v1",
    "agent": "shipped",
    "episodes": 3,
    "mean": 21.5,
    "std": 2.25,
    "ci95": [19.0, 24.0],
    "real_frames": 1234,
    "returns": [19.0, 21.5, 24.0],
}


def write_run(
    folder: Path, memory: MemoryModel[Any], *, vision: Vision | None = None, starts: int = 3, **provenance: Any
) -> Path:
    model = WorldModel(
        vision or IdentityVision(4),
        memory,
        RealEnvSpec("CartPole-v1"),
        ACTIONS,
        StartStates(torch.eye(4)[torch.arange(starts) % 4]),
        max_episode_steps=20,
        provenance=provenance,
    )
    model.save(folder / "bundle")
    controller = LinearController(
        np.zeros(weight_shape(model)), model.observation_space(), ACTIONS, provenance={"real_frames": 34}
    )
    save_agent(controller, folder / "agent")
    return folder


OTHERS_SUM = 64 * "a"


def write_registry(folder: Path) -> Path:
    file = folder / "registry.yaml"
    file.write_text(
        "# The first line is a remark.\nformat: 1\nenvironments:\n  DreamPole-v0:\n    latent_id: LatentPole-v0\n"
        "    checkpoint: published  # where it lies\n    real:\n      id: CartPole-v1\n"
        "    dream:\n      max_episode_steps: 30\n      temperature: 1.25\n"
        "  DreamPole-v1:\n    latent_id: LatentPole-v1\n    checkpoint: other\n"
        f"    sha256:\n      config.json: {OTHERS_SUM}\n    real:\n      id: CartPole-v1\n"
        "    dream:\n      max_episode_steps: 30\n",
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_run_with_any_kind_of_memory_is_published(tmp_path: Path, kind: str) -> None:
    memory, settings = MEMORIES[kind]
    run = write_run(
        tmp_path / "run", memory, ledger={"collect": 1000, "validation": 200}, held_out={"reward_r2": 0.87654}
    )
    file = write_registry(tmp_path)
    baseline = SCORE | {"mean": 9.0, "agent": "random", "real_frames": 0}
    target = publish_bundle(
        "DreamPole-v0", run, file, score=SCORE, baseline=baseline, commands="dreamenv train\n", license_name="CC0"
    )
    assert target == (tmp_path / "published").resolve()
    published = WorldModel.load(target)
    assert (published.temperature, published.max_episode_steps) == (1.25, 30)
    assert published.provenance["score"]["mean"] == 21.5
    assert "returns" not in published.provenance["score"]
    card = (target / "README.md").read_text(encoding="utf-8")
    for told in (f"| memory | {kind} |", *settings, "| vision | identity |", "| agent | linear |", "1,000", "0.8765"):
        assert told in card, told
    assert "| shipped, trained only in the dream | 21.5 | 2.2 | 19.0 to 24.0 |" in card
    assert "Weights are float32 safetensors; the license is CC0." in card
    assert "| in all | 1,234 |" in card
    assert "dreamenv train" in card
    assert "that M explains one step ahead" in card
    assert (target / "README.md").read_text(encoding="utf-8").startswith("# DreamPole-v0\n")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# The first line is a remark.")
    assert "# where it lies" in text
    # The hashes are those of the files: a file that has changed is refused
    recorded = registry.read_registry(file)["DreamPole-v0"].section.sha256
    assert sorted(recorded) == ["agent.safetensors", "config.json", "model.safetensors", "starts.safetensors"]
    again = publish_bundle("DreamPole-v0", run, file, score=SCORE, baseline=baseline, commands="dreamenv train\n")
    assert again == target
    assert registry.read_registry(file)["DreamPole-v0"].section.sha256 == recorded
    assert registry.read_registry(file)["DreamPole-v1"].section.sha256 == {"config.json": OTHERS_SUM}
    assert file.read_text(encoding="utf-8") == text


def test_what_the_reward_of_an_rssm_was_explained_by_is_told(tmp_path: Path) -> None:
    memory = RSSM(4, ACTIONS, hidden_size=6, groups=2, classes=2, width=6)
    vision = SymlogMLP(4, memory.latent_size, width=4)
    run = write_run(tmp_path / "run", memory, vision=vision, held_out={"reward_r2": 0.5})
    target = publish_bundle("DreamPole-v0", run, write_registry(tmp_path), score=SCORE, baseline=SCORE)
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "that M explains once it has seen the observation that followed |" in card
    assert "one step ahead" not in card


def test_what_the_run_does_not_know_is_not_in_the_card(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TabularMemory(4, ACTIONS))
    unknown = SCORE | {"real_frames": None}
    target = publish_bundle("DreamPole-v0", run, write_registry(tmp_path), score=unknown, baseline=SCORE)
    card = (target / "README.md").read_text(encoding="utf-8")
    assert "| in all | not recorded |" in card
    assert "Held-out" not in card
    assert "How it was made" not in card
    assert "None" not in card


def test_start_states_are_thinned_out_evenly(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", TabularMemory(4, ACTIONS), starts=2 * MOST_STARTS + 1)
    target = publish_bundle("DreamPole-v0", run, write_registry(tmp_path), score=SCORE, baseline=SCORE)
    first = WorldModel.load(target).starts.first
    assert len(first) == MOST_STARTS
    before = WorldModel.load(run / "bundle").starts.first
    assert torch.equal(first[[0, -1]], before[[0, -1]])


def test_an_id_may_stand_in_quotes(tmp_path: Path) -> None:
    run, file = write_run(tmp_path / "run", TabularMemory(4, ACTIONS)), write_registry(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace("  DreamPole-v0:", '  "DreamPole-v0":'), encoding="utf-8")
    publish_bundle("DreamPole-v0", run, file, score=SCORE, baseline=SCORE)
    hashes = registry.read_registry(file)["DreamPole-v0"].section.sha256
    assert hashes["agent.safetensors"] == sha256_of(tmp_path / "published" / "agent.safetensors")


def test_bad_input(tmp_path: Path) -> None:
    run, file = write_run(tmp_path / "run", TabularMemory(4, ACTIONS)), write_registry(tmp_path)
    with pytest.raises(ConfigurationError, match="the score is of Pendulum-v1, the bundle of CartPole-v1"):
        publish_bundle("DreamPole-v0", run, file, score=SCORE | {"real_id": "Pendulum-v1"}, baseline=SCORE)
    with pytest.raises(UnknownDreamError, match="Did you mean DreamPole-v0"):
        publish_bundle("DreamPoles-v0", run, file, score=SCORE, baseline=SCORE)
    with pytest.raises(ConfigurationError, match="LatentPole-v0 is the latent twin of DreamPole-v0; publish DreamPol"):
        publish_bundle("LatentPole-v0", run, file, score=SCORE, baseline=SCORE)
    with pytest.raises(ConfigurationError, match="the baseline lacks ci95, std"):
        publish_bundle(
            "DreamPole-v0",
            run,
            file,
            score=SCORE,
            baseline={k: v for k, v in SCORE.items() if k not in ("std", "ci95")},
        )
    with pytest.raises(ConfigurationError, match="the score is no object; give what `dreamenv eval --json` wrote"):
        publish_bundle("DreamPole-v0", run, file, score=[1, 2], baseline=SCORE)  # type: ignore[arg-type]
    file.write_text(file.read_text(encoding="utf-8").replace("id: CartPole-v1", "id: Acrobot-v1"), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="DreamPole-v0 is a dream of Acrobot-v1, the bundle one of CartPole"):
        publish_bundle("DreamPole-v0", run, file, score=SCORE, baseline=SCORE)
    inline = "format: 1\nenvironments:\n  DreamPole-v0: {latent_id: L-v0, checkpoint: published, "
    file.write_text(inline + "real: {id: CartPole-v1}, dream: {max_episode_steps: 30}}\n", encoding="utf-8")
    with pytest.raises(RegistryError, match="the entry DreamPole-v0 is not written as an indented block"):
        publish_bundle("DreamPole-v0", run, file, score=SCORE, baseline=SCORE)
    write_registry(tmp_path)
    (run / "agent" / "agent.safetensors").unlink()
    with pytest.raises(BundleError, match=r"agent\.safetensors: cannot be read"):
        publish_bundle("DreamPole-v0", run, file, score=SCORE, baseline=SCORE)
    assert not (tmp_path / "published").exists()
    assert load_agent(save_agent(load_agent(write_run(tmp_path / "other", TabularMemory(4, ACTIONS)) / "agent"), run))
