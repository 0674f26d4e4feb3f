"""Runs that are killed, terminated and interrupted at random moments end with what an unbroken run leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file

from dreamenv.data.episode_file import FIELDS, read_episode
from dreamenv.data.episodes import EpisodeStore
from tests.fakes import DISCRETE, trained_like_world_model

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
_PATIENCE = 600.0
_SMALL = {
    "memory": {"hidden_size": 8, "mixtures": 2},
    "refit": {"memory_steps": 60},
    "fit_memory": {"steps": 60, "validate_every": 5, "batch_size": 4, "sequence_length": 16, "precision": "float32"},
}
_REGISTRY = {
    "format": 1,
    "environments": {
        "DreamTorture-v0": {
            "latent_id": "LatentTorture-v0",
            "checkpoint": "bundle",
            "real": {"id": "CartPole-v1"},
            "dream": {"max_episode_steps": 50},
            "train": {
                "frames": 2000,
                "options": _SMALL,
                "loop": {
                    "rounds": 2, "greedy_episodes": 2, "noisy_episodes": 2, "validation_episodes": 2,
                    "agent": {"steps": 20, "batch_size": 8, "horizon": 4, "width": 8},
                },
            },
        }
    },
}  # fmt: skip
VERBS: dict[str, list[str]] = {
    "collect": ["collect", "DreamTorture-v0", "--frames", "6000", "--workers", "2", "--seed", "3", "--out", "run"],
    "train": ["train", "DreamTorture-v0", "--frames", "2000", "--workers", "1", "--seed", "3", "--out", "run"],
    "evolve": [
        "evolve", "bundle", "--generations", "12", "--population", "8", "--rollouts", "4", "--horizon", "20",
        "--out", "run",
    ],
    "loop": [
        "loop", "DreamTorture-v0", "--loop", "first_frames=1500", "--workers", "1", "--seed", "3", "--out", "run",
    ],
}  # fmt: skip


@dataclass
class Interrupted:
    """What became of a verb.

    Attributes:
        verb: Its name.
        stopped: Moments at which the run was stopped, by signal.
        faults: What must not be.
    """

    verb: str
    stopped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIGNALS, 0))
    faults: list[str] = field(default_factory=list)


def interrupt(verb: str, folder: Path, *, moments: int, seed: int) -> Interrupted:
    """Stop `verb` at `moments` random moments by each signal, and compare what it ends with."""
    rng = np.random.default_rng([seed, *verb.encode()])
    found = Interrupted(verb)
    began = time.monotonic()
    _finish(_begin(verb, folder / "whole"), found, "unbroken")
    if found.faults:
        return found  # nothing to compare with
    seconds = time.monotonic() - began
    whole = contents(folder / "whole" / "run")
    for name, number in SIGNALS.items():
        attempt = 0
        while found.stopped[name] < moments and attempt < 4 * moments:
            place = folder / f"{name.replace(' ', '')}{attempt}"
            attempt += 1
            while found.stopped[name] < moments:
                process = _begin(verb, place)
                if not _stop(process, number, float(rng.uniform(0.2, seconds)), found, name):
                    break
            _finish(_begin(verb, place), found, f"after {name}")
            different = _differences(whole, contents(place / "run"))
            if different:
                found.faults.append(f"{verb} after {name}: {', '.join(different)} differ from the unbroken run")
        if found.stopped[name] < moments:
            found.faults.append(f"{verb}: {name} has stopped it {found.stopped[name]} times of {moments}")
    return found


def contents(run: Path) -> dict[str, Any]:
    """Tensors and episodes that a run leaves, by file."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*.safetensors")):
        if file.parent.name in ("bundle", "agent") or file.name == "agent.safetensors":
            found[str(file.relative_to(run))] = load_file(file)
    for file in EpisodeStore(run).files():
        episode = read_episode(file)
        found[str(file.relative_to(run))] = {name: getattr(episode, name) for name in FIELDS}
    return found


def _differences(whole: dict[str, Any], found: dict[str, Any]) -> list[str]:
    names = sorted(whole.keys() ^ found.keys())
    for name in whole.keys() & found.keys():
        parts = whole[name].keys() | found[name].keys()
        if any(not np.array_equal(whole[name].get(part), found[name].get(part)) for part in parts):
            names.append(name)
    return names


def _begin(verb: str, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "registry.yaml").exists():
        (folder / "registry.yaml").write_text(yaml.safe_dump(_REGISTRY), encoding="utf-8")
        trained_like_world_model(action_space=DISCRETE, image=False).save(folder / "bundle")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DREAMENV_REGISTRY": str(folder / "registry.yaml"),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "dreamenv", *VERBS[verb]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """A shell has its background jobs ignore Ctrl-C, and what they start would too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _stop(process: subprocess.Popen[str], number: signal.Signals, wait: float, found: Interrupted, name: str) -> bool:
    """Whether the process was stopped while it worked; not so where it ended by itself before."""
    try:
        output = process.communicate(timeout=wait)[0]
        if process.returncode != 0:
            found.faults.append(f"{found.verb}: ended with {process.returncode} by itself: {output[-300:]}")
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    output = process.communicate(timeout=_PATIENCE)[0]
    if process.returncode == 0:
        return False
    found.stopped[name] += 1
    # A signal that comes while Python imports the package, before the command line has the word, is Python's to answer
    ours = any(place in output for place in (", in _main\n", "dreamenv/workers/", "multiprocessing/"))
    if "Traceback" in output and ours and number != signal.SIGKILL:
        found.faults.append(f"{found.verb}, {name}: {output[-600:]}")
    _check_nobody_stays(process.pid, found, name)
    return True


def _check_nobody_stays(session: int, found: Interrupted, name: str) -> None:
    """Workers end with their parent; they have its session."""
    until = time.monotonic() + 60
    while left := _of_session(session):
        if time.monotonic() > until:
            found.faults.append(f"{found.verb}, {name}: processes {left} are still there after a minute")
            for process in left:
                os.kill(process, signal.SIGKILL)
            return
        time.sleep(0.05)


def _of_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _finish(process: subprocess.Popen[str], found: Interrupted, when: str) -> None:
    output = process.communicate(timeout=_PATIENCE)[0]
    if process.returncode != 0:
        found.faults.append(f"{found.verb}, {when}: status {process.returncode}: {output[-600:]}")
