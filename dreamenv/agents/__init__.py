"""Agents: what acts in a dream and, unchanged, in the real environment."""

from dreamenv.agents.action_map import ACTION_MAPS, ActionMap
from dreamenv.agents.base import Agent, SavableAgent, check_spaces
from dreamenv.agents.controller import LinearController
from dreamenv.agents.evolution import Evolution, evolve
from dreamenv.agents.evolution_state import Generation, ValidationScore
from dreamenv.agents.kinds import register_agent
from dreamenv.agents.mpc import MPCAgent, mpc_agent
from dreamenv.agents.optimisers import CMAES, OpenAIES, Optimiser, make_optimiser
from dreamenv.agents.options import EvolutionOptions, ImaginationOptions, PopulationOptions
from dreamenv.agents.population import initial_weights, score_population, weight_shape
from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.resolve import ResolvedAgent, load_agent, resolve_agent
from dreamenv.agents.saved import save_agent
from dreamenv.noise.branching import SharedNoise

__all__ = [
    "ACTION_MAPS",
    "CMAES",
    "ActionMap",
    "Agent",
    "Evolution",
    "EvolutionOptions",
    "Generation",
    "ImaginationOptions",
    "LinearController",
    "MPCAgent",
    "OpenAIES",
    "Optimiser",
    "PopulationOptions",
    "RandomAgent",
    "ResolvedAgent",
    "SavableAgent",
    "SharedNoise",
    "ValidationScore",
    "check_spaces",
    "evolve",
    "initial_weights",
    "load_agent",
    "make_optimiser",
    "mpc_agent",
    "register_agent",
    "resolve_agent",
    "save_agent",
    "score_population",
    "weight_shape",
]
