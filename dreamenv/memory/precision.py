"""In which precision a dream multiplies: a short measurement decides, and the machine keeps what it found."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamenv.files import create_json, fingerprint, read_json, write_json
from dreamenv.memory.base import PRECISIONS, MemoryModel, Stepper

CACHE_VARIABLE = "DREAMENV_CACHE"
# Fewer dreams take float32: calls cost them more than products. Beyond the most the ratio stays as it is.
LEAST_ROWS, _MOST_ROWS = 256, 4096
# bfloat16 rounds, so that it has to pay
_LEAST_GAIN = 1.1
# The least of many repetitions is what a step takes when nobody disturbs it
_WARM_UP, _LEAST_REPETITIONS, _MOST_REPETITIONS, _SECONDS = 2, 5, 25, 0.5

_known: dict[Path | str, str] = {}
# What another process has decided for memories of these sizes, by number of dreams
_told: dict[str, dict[int, str]] = {}
_lock = threading.Lock()


def faster_precision(
    memory: MemoryModel[Any],
    rows: int,
    make: Callable[[str], Stepper[Any]],
    actions: Callable[[int], Tensor],
) -> str:
    """ "bfloat16" where a step in it is at least a tenth faster than in float32, else "float32".

    Below 256 dreams and off the CPU it is float32, and nothing is measured. The answer is kept for the processor, the
    version of torch, its threads, the kind and the sizes of the memory, and the number of dreams to the nearest power
    of two: in the folder that the environment variable DREAMENV_CACHE names, else in the user's cache folder, else, if
    neither can be written to, for this process. Of several processes that measure at once the first to finish decides.

    Args:
        memory: The model.
        rows: Dreams at once.
        make: The stepper in a precision.
        actions: Any actions of so many dreams.
    """
    if memory.device.type != "cpu" or rows < LEAST_ROWS:
        return "float32"
    bucket = min(_MOST_ROWS, 2 ** round(math.log2(rows)))
    sizes = _sizes(memory)
    told = _told.get(_name(sizes), {})
    if bucket in told:
        return told[bucket]
    circumstances = {
        "processor": _processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "memory": sizes,
        "rows": bucket,
    }
    name = _name(circumstances)
    folder = _cache_folder()
    place = name if folder is None else folder / "precision" / f"{name}.json"
    with _lock:  # two measurements at once would measure each other
        if place not in _known:
            found = None if isinstance(place, str) else _read(place)
            if found is None:
                seconds = seconds_of_a_step(memory, bucket, make, actions)
                gain = seconds["float32"] / seconds["bfloat16"]
                found = "bfloat16" if gain >= _LEAST_GAIN else "float32"
                if not isinstance(place, str):
                    found = _keep(place, {"precision": found, "seconds": seconds} | circumstances)
            _known[place] = found
        return _known[place]


def decisions(memory: MemoryModel[Any]) -> dict[int, str]:
    """What "auto" means for this memory in this process, by number of dreams; what is not known yet is measured."""
    rows = LEAST_ROWS
    found = {}
    while rows <= _MOST_ROWS:
        found[rows] = memory.stepper(rows).precision
        rows *= 2
    return found


def adopt(memory: MemoryModel[Any], found: dict[int, str]) -> None:
    """Let "auto" mean in this process what `decisions` gave in another one, for all memories of the same sizes."""
    _told[_name(_sizes(memory))] = found


def seconds_of_a_step(
    memory: MemoryModel[Any],
    rows: int,
    make: Callable[[str], Stepper[Any]],
    actions: Callable[[int], Tensor],
) -> dict[str, float]:
    """Seconds that a step of `rows` dreams takes in each precision: the least of some that are taken in turn."""
    noise = torch.Generator().manual_seed(0)
    action = actions(rows)
    with torch.no_grad():
        begun = memory.initial(torch.randn(rows, memory.embedding_size, generator=noise), noise=noise)
        steppers = {precision: make(precision) for precision in PRECISIONS}
        states = dict.fromkeys(steppers, begun)
        least = dict.fromkeys(steppers, math.inf)
        until = time.perf_counter() + _SECONDS
        for repetition in range(-_WARM_UP, _MOST_REPETITIONS):
            for precision, stepper in steppers.items():
                began = time.perf_counter()
                states[precision], _ = stepper(states[precision], action, noise=noise)
                if repetition >= 0:
                    least[precision] = min(least[precision], time.perf_counter() - began)
            if repetition + 1 >= _LEAST_REPETITIONS and time.perf_counter() > until:
                break
    return least


def _cache_folder() -> Path | None:
    """Where decisions are kept; None where the user has no home."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    users = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(users) if users else Path.home() / ".cache") / "dreamenv"
    except RuntimeError:
        return None


def _read(file: Path) -> str | None:
    """The precision that a file holds; None where there is none, or it is damaged."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return None
    found = content.get("precision") if isinstance(content, dict) else None
    return found if found in PRECISIONS else None


def _keep(file: Path, record: dict[str, Any]) -> str:
    """Write the record unless another process was first, and return the precision that holds from now on."""
    ours: str = record["precision"]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if not create_json(file, record):
            found = _read(file)
            if found is not None:
                return found
            write_json(file, record)
    except OSError:
        pass  # it is kept in this process
    return ours


def _name(circumstances: dict[str, Any]) -> str:
    return fingerprint([json.dumps(circumstances, sort_keys=True).encode()])


def _sizes(memory: MemoryModel[Any]) -> dict[str, Any]:
    """Kind, choices and shapes; not the numbers that change with each fit."""
    choices = {name: value for name, value in memory.config().items() if isinstance(value, (int, str))}
    return choices | {"shapes": {name: list(part.shape) for name, part in memory.state_dict().items()}}


@lru_cache
def _processor() -> list[str]:
    """What tells processors apart: their names, and the instructions that they know."""
    lines: list[str] = []
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        wanted = r"^(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU part)\s*: (.*)$"
        lines = [found[2] for found in re.finditer(wanted, first, re.MULTILINE)]
    except (OSError, ValueError):
        pass  # another system
    return [platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability(), *lines]
