"""An agent in a folder is not overwritten by what learns there otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamenv.agents import evolve
from dreamenv.agents.distillation import distill
from dreamenv.agents.imagination import train_actor_critic
from dreamenv.agents.options import DistillationOptions, EvolutionOptions, ImaginationOptions
from dreamenv.agents.saved import AGENT_FILE
from dreamenv.errors import ConfigurationError
from dreamenv.planners import MCTS
from dreamenv.world_model import WorldModel
from tests.agents.small_dreams import CHOICE, StairsMemory, small_dream

LEARNERS: dict[str, Callable[[WorldModel, Path], Any]] = {
    "evolve": lambda model, folder: evolve(
        model, out_dir=folder, options=EvolutionOptions(generations=1, population=4, rollouts=1)
    ),
    "actor-critic": lambda model, folder: train_actor_critic(
        model, out_dir=folder, options=ImaginationOptions(steps=1, batch_size=4, horizon=2, width=4)
    ),
    "distill": lambda model, folder: distill(
        model,
        MCTS(simulations=2, horizon=2),
        out_dir=folder,
        options=DistillationOptions(rounds=1, decisions=20, dreams=4, steps=1, width=4),
    ),
}


@pytest.mark.parametrize("other", LEARNERS)
def test_a_folder_keeps_the_agent_that_was_learned_in_it(other: str, tmp_path: Path) -> None:
    model = small_dream(StairsMemory(), CHOICE)
    LEARNERS[other](model, tmp_path)
    kept = (tmp_path / AGENT_FILE).read_bytes()
    for name, learn in LEARNERS.items():
        if name == other:
            learn(model, tmp_path)  # goes on, which here is to find that there is no more to learn
        else:
            with pytest.raises(ConfigurationError, match="holds an agent that was learned otherwise"):
                learn(model, tmp_path)
        assert (tmp_path / AGENT_FILE).read_bytes() == kept
