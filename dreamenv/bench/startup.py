"""What a user waits for before the first step, and what the dreams keep in memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamenv.envs import DreamVectorEnv
from dreamenv.envs.loading import open_world_model
from dreamenv.workers import run_tasks
from dreamenv.world_model import WorldModel

_IMPORT = "import time; begin = time.perf_counter(); import {0}; print(time.perf_counter() - begin)"
_MAKE = """
import gymnasium, time
import dreamenv
for _ in range(2):
    begin = time.perf_counter()
    gymnasium.make({0!r}).close()
    print(time.perf_counter() - begin)
"""


@dataclass(frozen=True)
class Startup:
    """Medians in seconds, each of fresh processes in turn.

    Attributes:
        import_gymnasium: `import gymnasium`.
        import_dreamenv: `import dreamenv`, Gymnasium included.
        make_cold: The first `gymnasium.make` of the id in a process that has imported both.
        make_warm: The second.
    """

    import_gymnasium: float
    import_dreamenv: float
    make_cold: float
    make_warm: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def measure_startup(model_id: str, *, repetitions: int = 5) -> Startup:
    """Time imports and `gymnasium.make` of a registered id in processes of their own."""
    times: list[list[float]] = []
    for _ in range(repetitions):
        found = [_run(_IMPORT.format(name))[0] for name in ("gymnasium", "dreamenv")]
        times.append(found + _run(_MAKE.format(model_id)))
    return Startup(*(float(part) for part in np.median(times, axis=0)))


@dataclass(frozen=True)
class MemoryUse:
    """Attributes:
    bytes_per_env: Of a dream's state, random numbers included.
    growth: Bytes by which the process has grown over `steps` steps, after as many before.
    steps: Dreamed steps, of all dreams.
    """

    bytes_per_env: float
    growth: int
    steps: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def measure_memory(world_model: WorldModel | str | Path, *, num_envs: int = 1024, steps: int = 1_000_000) -> MemoryUse:
    """Step `num_envs` dreams for `steps` steps in all, twice, and compare the size of the process after each.

    The dreams have a process of their own: what this one has freed would be used again, and hide what they keep.
    """
    ((_, found),) = run_tasks([steps], _make_stepping, (world_model, num_envs), workers=1)
    return found


def _make_stepping(setup: tuple[WorldModel | str | Path, int]) -> Callable[[int], MemoryUse]:
    return lambda steps: _step_twice(*setup, steps)


def _step_twice(world_model: WorldModel | str | Path, num_envs: int, steps: int) -> MemoryUse:
    envs = DreamVectorEnv(open_world_model(world_model), num_envs)
    envs.action_space.seed(0)
    actions = envs.action_space.sample()
    envs.reset(seed=0)
    sizes = []
    for _ in range(2):
        for _ in range(-(-steps // num_envs)):
            envs.step(actions)
        sizes.append(_resident_bytes())
    state = envs.rollout.get_state()
    arrays = [*state["memory"].values(), *(part for name, part in state.items() if name != "memory")]
    return MemoryUse(sum(part.nbytes for part in arrays) / num_envs, sizes[1] - sizes[0], steps)


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm")
    if pages.exists():  # Linux starts a new process with its parent's largest size, so the largest says nothing there
        return int(pages.read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _run(code: str) -> list[float]:
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [float(line) for line in finished.stdout.split()]
