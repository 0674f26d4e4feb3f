"""Planners: they choose an action by dreaming ahead from where they are.

Each is a frozen set of settings with one method that matters: `plan(world_model, state, noise=...)`, from memory
states to actions.
"""

from dreamenv.noise.branching import CommonNoise, RowNoise
from dreamenv.planners.base import Guide, Plan, Planner, TerminalValue
from dreamenv.planners.cem import CEM
from dreamenv.planners.environment_search import EnvironmentPlan, Seen, search_environment
from dreamenv.planners.gradient import GradientPlanner
from dreamenv.planners.gumbel import Gumbel
from dreamenv.planners.ilqr import ILQR
from dreamenv.planners.imagined_return import imagined_returns
from dreamenv.planners.mcts import MCTS
from dreamenv.planners.mppi import MPPI
from dreamenv.planners.schemes import PLANNERS, make_planner, register_planner
from dreamenv.planners.shooting import RandomShooting
from dreamenv.planners.tree import PUCT, SearchTree, Selection, search

__all__ = [
    "CEM",
    "ILQR",
    "MCTS",
    "MPPI",
    "PLANNERS",
    "PUCT",
    "CommonNoise",
    "EnvironmentPlan",
    "GradientPlanner",
    "Guide",
    "Gumbel",
    "Plan",
    "Planner",
    "RandomShooting",
    "RowNoise",
    "SearchTree",
    "Seen",
    "Selection",
    "TerminalValue",
    "imagined_returns",
    "make_planner",
    "register_planner",
    "search",
    "search_environment",
]
