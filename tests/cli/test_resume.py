"""kill -9 in the middle of collect, train and evolve: the same command ends as an unbroken run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from gymnasium import spaces
from safetensors import safe_open

from dreamenv.data.collect import is_unfinished
from dreamenv.data.episodes import EpisodeStore
from dreamenv.training.checkpoint import load_tensors
from dreamenv.types import RealEnvSpec
from tests.fakes import trained_like_world_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]

REGISTRY = {
    "format": 1,
    "environments": {
        "DreamTiny-v0": {
            "latent_id": "LatentTiny-v0",
            "checkpoint": "bundle",
            "real": {"id": "Pendulum-v1"},
            "dream": {"max_episode_steps": 50},
            "train": {
                "frames": 3000,
                "options": {
                    "memory": {"hidden_size": 8, "mixtures": 2, "dropout": 0.1},
                    "fit_memory": {
                        "steps": 100, "validate_every": 5, "batch_size": 4, "sequence_length": 16,
                        "latents_as": "sample",
                    },
                },
            },
        }
    },
}  # fmt: skip


class Command:
    """`python -m dreamenv ARGUMENTS`, in a folder whose registry.yaml knows DreamTiny-v0."""

    def __init__(self, folder: Path, root: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        (folder / "registry.yaml").write_text(yaml.safe_dump(REGISTRY), encoding="utf-8")
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "DREAMENV_REGISTRY": str(folder / "registry.yaml"),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, arguments: Sequence[str]) -> None:
        """Run it to its end."""
        with self._start(arguments) as process:
            output = process.communicate(timeout=600)[0]
            assert process.returncode == 0, output

    def kill(self, arguments: Sequence[str], when: Callable[[], bool]) -> None:
        """Run it until `when`, then kill it with SIGKILL."""
        with self._start(arguments) as process:
            until = time.monotonic() + 600
            while not when() and time.monotonic() < until and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            output = process.communicate()[0]
            assert process.returncode == -signal.SIGKILL, f"it ended before it was killed\n{output}"

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dreamenv", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}


def test_a_killed_collection(tmp_path: Path, root: Path) -> None:
    command = Command(tmp_path, root)
    arguments = ["collect", "DreamTiny-v0", "--frames", "8000", "--workers", "2", "--seed", "3", "--out"]
    command.run([*arguments, "whole"])
    store = EpisodeStore(tmp_path / "broken" / "episodes")
    command.kill([*arguments, "broken"], lambda: len(store) >= 2)
    assert is_unfinished(store.path)
    assert len(store) < 40
    command.run([*arguments, "broken"])
    assert contents(store.path) == contents(tmp_path / "whole" / "episodes")
    for name in ("ledger.json", "config.yaml"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_killed_training(tmp_path: Path, root: Path) -> None:
    """Killed twice: among its own episodes, which are not all there then, and between two checkpoints."""
    command = Command(tmp_path, root)
    arguments = [
        "train",
        "DreamTiny-v0",
        "--set",
        "fit_memory.precision=float32",
        "--workers",
        "1",
        "--seed",
        "3",
        "--out",
    ]
    command.run([*arguments, "whole"])
    store = EpisodeStore(tmp_path / "broken" / "episodes")
    command.kill([*arguments, "broken"], lambda: len(store) >= 2)
    assert len(store) < 15
    checkpoint = tmp_path / "broken" / "memory" / "checkpoint.safetensors"
    command.kill([*arguments, "broken"], checkpoint.exists)
    assert load_tensors(checkpoint)[1]["step"] < 100
    assert not (tmp_path / "broken" / "bundle").exists()
    command.run([*arguments, "broken"])
    assert contents(store.path) == contents(tmp_path / "whole" / "episodes")
    bundles = [contents(tmp_path / name / "bundle") for name in ("broken", "whole")]
    assert set(bundles[0]) == {"config.json", "model.safetensors", "starts.safetensors"}
    assert bundles[0] == bundles[1]


def test_a_killed_evolution(tmp_path: Path, root: Path) -> None:
    command = Command(tmp_path, root)
    box = spaces.Box(-2.0, 2.0, (1,))
    trained_like_world_model(
        action_space=box, image=False, real=RealEnvSpec("Pendulum-v1"), latent_size=3
    ).save(tmp_path / "bundle")  # fmt: skip
    arguments = [
        "evolve", "bundle", "--generations", "60", "--population", "8", "--rollouts", "2", "--horizon", "10",
        "--seed", "3", "--out",
    ]  # fmt: skip
    command.run([*arguments, "whole"])
    command.kill([*arguments, "broken"], (tmp_path / "broken" / "evolution.safetensors").exists)
    with safe_open(tmp_path / "broken" / "evolution.safetensors", "np") as opened:
        assert len(opened.get_tensor("fitness")) < 60
    command.run([*arguments, "broken"])
    agents = [everything_in(tmp_path / name / "agent.safetensors") for name in ("broken", "whole")]
    assert agents[0] == agents[1]


def everything_in(file: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Metadata, which safetensors writes in no fixed order, and the tensors' bytes."""
    with safe_open(file, "np") as opened:
        return opened.metadata(), {name: opened.get_tensor(name).tobytes() for name in opened.keys()}  # noqa: SIM118
