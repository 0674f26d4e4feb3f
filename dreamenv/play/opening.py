"""What is needed to sit down in a dream: the model, its defaults as registered, and an agent to hand over to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dreamenv import registry
from dreamenv.agents.base import Agent
from dreamenv.agents.resolve import RANDOM, SHIPPED, ResolvedAgent, resolve_agent
from dreamenv.envs.loading import open_world_model
from dreamenv.play.good_starts import with_good_starts
from dreamenv.play.latents import order_of_effect
from dreamenv.types import Start
from dreamenv.world_model import WorldModel, check_temperature


@dataclass(frozen=True)
class Opening:
    """A dream that players can sit down in.

    Attributes:
        id: The dream's id, or the bundle's folder.
        model: The world model, shared by all players. Where the dream's own starts are asked for and its bundle holds
            an agent, it has the good ones of them (see `good_starts`).
        agent_name: "shipped", "random", or what was asked for.
        temperature, start, max_episode_steps: Defaults of the dream.
        steps_per_second: Actions a second that look as fast as the real environment.
        make_agent: An agent of a player's own, from a seed (agents may have a state or draw numbers).
        yardsticks: Mean returns on the real environment, of "agent" and "random", as far as the model's record holds
            them.
    """

    id: str
    model: WorldModel
    agent_name: str
    temperature: float
    start: Start
    max_episode_steps: int
    steps_per_second: int
    make_agent: Callable[[int], Agent]
    yardsticks: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def latent_order(self) -> tuple[int, ...]:
        """Latent dimensions by how much they change the picture, those that change it most first."""
        return tuple(order_of_effect(self.model))


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
    defaults = None if registry.folder_of(name) is not None else registry.find(name)
    source = name if defaults is None else defaults.id
    model = open_world_model(source)
    section = None if defaults is None else defaults.section.dream
    temperature = temperature if temperature is not None else (section or model).temperature
    check_temperature(temperature)
    own_start: Start = "initial" if section is None else section.start
    model.start_count(start or own_start)
    if start is None and own_start == "initial":
        shipped = resolve_agent(None, model, source=source, otherwise=RANDOM)
        if not shipped.blind:
            model = with_good_starts(model, shipped.agent, temperature=temperature)

    def resolved() -> ResolvedAgent:
        return resolve_agent(agent, model, source=source, algo=algo, otherwise=RANDOM)

    player = resolved()  # its errors are raised now rather than at the first player
    return Opening(
        id=source,
        model=model,
        agent_name=player.label,
        temperature=float(temperature),
        start=start or own_start,
        max_episode_steps=(section or model).max_episode_steps,
        steps_per_second=model.real.steps_per_second,
        make_agent=lambda seed: resolved().of_episode(seed),
        yardsticks=_yardsticks(model, player.label),
    )


def _yardsticks(model: WorldModel, agent: str) -> dict[str, float]:
    """What the model's record says of real returns; that of the agent, if it is the shipped one."""
    found = {}
    for who, name in (("agent", "score"), ("random", "baseline")):
        mean = (model.provenance.get(name) or {}).get("mean")
        if isinstance(mean, (int, float)) and (who == "random" or agent == SHIPPED):
            found[who] = float(mean)
    return found
