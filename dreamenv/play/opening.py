"""What is needed to sit down in a dream: the model, its defaults as registered, and an agent to hand over to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dreamenv import registry
from dreamenv.agents.base import Agent
from dreamenv.agents.resolve import RANDOM, ResolvedAgent, resolve_agent
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import ConfigurationError
from dreamenv.types import Start
from dreamenv.world_model import WorldModel


@dataclass(frozen=True)
class Opening:
    """A dream that players can sit down in.

    Attributes:
        id: The dream's id, or the bundle's folder.
        model: The world model, shared by all players.
        agent_name: "shipped", "random", or what was asked for.
        temperature, start, max_episode_steps: Defaults of the dream.
        steps_per_second: Actions a second that look as fast as the real environment.
        make_agent: An agent of a player's own, from a seed (agents may have a state or draw numbers).
    """

    id: str
    model: WorldModel
    agent_name: str
    temperature: float
    start: Start
    max_episode_steps: int
    steps_per_second: int
    make_agent: Callable[[int], Agent]


def open_dream(
    name: str,
    *,
    agent: str | None = None,
    algo: str | None = None,
    temperature: float | None = None,
    start: Start | None = None,
) -> Opening:
    """The dream called `name`, with the defaults of its registry entry where it has one.

    Args:
        name: The id of a dream or of its latent twin, or a bundle's folder.
        agent: Path, id, planner or "random"; None is the agent in the bundle, or "random" where there is none.
        algo: The algorithm of stable-baselines3 that saved the agent, if one did; see `load_agent`.
        temperature, start: Instead of the dream's own.

    Raises:
        UnknownDreamError, BundleError: No such dream, bundle or agent.
        SpaceMismatchError: The agent is not one for this model.
        ConfigurationError: A temperature below 0, or start states that the model lacks.
    """
    defaults = None if Path(name).is_dir() else registry.find(name)
    source = name if defaults is None else defaults.id
    model = open_world_model(source)
    section = None if defaults is None else defaults.section.dream
    temperature = temperature if temperature is not None else (section or model).temperature
    if not temperature >= 0:
        raise ConfigurationError(f"temperature must be at least 0, got {temperature}")
    start = start if start is not None else ("initial" if section is None else section.start)
    model.start_count(start)

    def resolved() -> ResolvedAgent:
        return resolve_agent(agent, model, source=source, algo=algo, otherwise=RANDOM)

    player = resolved()  # its errors are raised now rather than at the first player
    return Opening(
        id=source,
        model=model,
        agent_name=player.label,
        temperature=float(temperature),
        start=start,
        max_episode_steps=(section or model).max_episode_steps,
        steps_per_second=model.real.steps_per_second,
        make_agent=lambda seed: resolved().of_episode(seed),
    )
