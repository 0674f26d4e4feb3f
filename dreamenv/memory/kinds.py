"""The register of memories, by the `kind` of their `config()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dreamenv.kinds import Register
from dreamenv.memory.base import MemoryModel, Stepper

MEMORIES: Register[type[MemoryModel[Any]]] = Register(
    "memory",
    {
        "mdn_rnn": "dreamenv.memory.mdn_rnn.model:MDNRNN",
        "probabilistic_ensemble": "dreamenv.memory.ensemble.model:ProbabilisticEnsemble",
        "rssm": "dreamenv.memory.rssm.model:RSSM",
        "tabular": "dreamenv.memory.tabular:TabularMemory",
        "value_equivalent": "dreamenv.memory.value_equivalent.model:ValueEquivalent",
    },
    MemoryModel,
)

# Fast steps of memories by kind: a file of physics finds its optimisation here and imports nothing of it
STEPPERS: Register[Callable[..., Stepper[Any]]] = Register(
    "stepper",
    {
        "mdn_rnn": "dreamenv.memory.mdn_rnn.fast.choose:fast_stepper",
        "rssm": "dreamenv.memory.rssm.fast.choose:fast_stepper",
    },
)


def register_memory(kind: str, memory: type[MemoryModel[Any]]) -> None:
    """Make bundles whose `memory.config()["kind"]` is `kind` load as `memory`.

    A package can do the same without being imported first, by an entry point: in its pyproject.toml
    `[project.entry-points."dreamenv.memory"]` with `kind = "package.module:Class"`.

    Args:
        kind: The name.
        memory: Called as `memory(action_space=..., **config)`, `config` without its `kind`.

    Raises:
        ConfigurationError: Another memory has this name, or it is no class of memories.
    """
    MEMORIES.add(kind, memory)
