"""A trained world model is a Gymnasium environment.

Importing the package registers its ids with Gymnasium; torch is imported when a dream is made, not before.

    >>> import gymnasium as gym, dreamenv
    >>> env = gym.make("DreamCarRacing-v1")
    >>> envs = gym.make_vec("DreamCarRacing-v1", num_envs=1024)

The verbs of the workflow, in the order in which data passes through them: `collect`, `train`, `evolve` or
`train_actor_critic`, `evaluate`, `dream_gap`; and `run_loop`, which goes round.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dreamenv.errors import DreamEnvError
from dreamenv.registration import register, register_known
from dreamenv.types import Episode, RealEnvSpec

if TYPE_CHECKING:
    from dreamenv.agents.evolution import evolve
    from dreamenv.agents.imagination import train_actor_critic
    from dreamenv.agents.kinds import register_agent
    from dreamenv.agents.options import EvolutionOptions, ImaginationOptions
    from dreamenv.agents.resolve import load_agent
    from dreamenv.data.collect import collect
    from dreamenv.envs import DreamEnv, DreamVectorEnv, LatentObservation
    from dreamenv.memory.base import MemoryModel
    from dreamenv.memory.kinds import register_memory
    from dreamenv.planners.schemes import register_planner
    from dreamenv.scoring.gap import GapOptions, dream_gap
    from dreamenv.scoring.score import evaluate
    from dreamenv.training.pipeline import TrainOptions, train
    from dreamenv.training.recipes.kinds import register_recipe
    from dreamenv.vision.kinds import register_vision
    from dreamenv.workflows.loop import run_loop
    from dreamenv.workflows.loop_options import LoopOptions
    from dreamenv.world_model import WorldModel

__version__ = "0.1.0"

__all__ = [
    "DreamEnv",
    "DreamEnvError",
    "DreamVectorEnv",
    "Episode",
    "EvolutionOptions",
    "GapOptions",
    "ImaginationOptions",
    "LatentObservation",
    "LoopOptions",
    "MemoryModel",
    "RealEnvSpec",
    "TrainOptions",
    "WorldModel",
    "__version__",
    "collect",
    "dream_gap",
    "evaluate",
    "evolve",
    "load_agent",
    "register",
    "register_agent",
    "register_memory",
    "register_planner",
    "register_recipe",
    "register_vision",
    "run_loop",
    "train",
    "train_actor_critic",
]

_LAZY = {
    "DreamEnv": "dreamenv.envs",
    "DreamVectorEnv": "dreamenv.envs",
    "EvolutionOptions": "dreamenv.agents.options",
    "GapOptions": "dreamenv.scoring.gap",
    "ImaginationOptions": "dreamenv.agents.options",
    "LatentObservation": "dreamenv.envs",
    "LoopOptions": "dreamenv.workflows.loop_options",
    "MemoryModel": "dreamenv.memory.base",
    "TrainOptions": "dreamenv.training.pipeline",
    "WorldModel": "dreamenv.world_model",
    "collect": "dreamenv.data.collect",
    "dream_gap": "dreamenv.scoring.gap",
    "evaluate": "dreamenv.scoring.score",
    "evolve": "dreamenv.agents.evolution",
    "load_agent": "dreamenv.agents.resolve",
    "register_agent": "dreamenv.agents.kinds",
    "register_memory": "dreamenv.memory.kinds",
    "register_planner": "dreamenv.planners.schemes",
    "register_recipe": "dreamenv.training.recipes.kinds",
    "register_vision": "dreamenv.vision.kinds",
    "run_loop": "dreamenv.workflows.loop",
    "train": "dreamenv.training.pipeline",
    "train_actor_critic": "dreamenv.agents.imagination",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dreamenv' has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))


register_known()
