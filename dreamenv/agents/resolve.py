"""Who acts: the one place where a name, a path or an object becomes an agent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import gymnasium as gym

from dreamenv.agents.base import Agent, SavableAgent, check_fits, observation_kind
from dreamenv.agents.kinds import AGENTS, FOREIGN_FORMATS
from dreamenv.agents.mpc import PREFIX, MPCAgent, mpc_agent, split_guide, with_guide
from dreamenv.agents.places import agent_file_of, agent_folder, read_agent_of
from dreamenv.agents.random_agent import RandomAgent
from dreamenv.agents.saved import is_savable, save_agent
from dreamenv.bundle import resolve_bundle
from dreamenv.envs.loading import open_world_model
from dreamenv.errors import BundleError, ConfigurationError, UnknownDreamError
from dreamenv.planners.schemes import PLANNERS
from dreamenv.world_model import WorldModel

RANDOM, SHIPPED = "random", "shipped"
# The library whose algorithms are named without it
_DEFAULT_FORMAT = "stable_baselines3"


@dataclass(frozen=True)
class ResolvedAgent:
    """An agent that fits a world model, and what it is called.

    Attributes:
        label: Its name in reports: "shipped", "random", the id, path or planner's name it was given by, or the kind of
            an object.
        agent: What acts.
        observation: The observation kind it reads.
        blind: It looks at no observation ("random"), so that V and M need not run for it.
    """

    label: str
    agent: Agent
    observation: str
    blind: bool = False

    def of_episode(self, seed: int, observation_space: gym.Space[object] | None = None) -> Agent:
        """The agent that plays the episode of `seed`, whatever has been played before.

        Args:
            seed: What a blind agent draws its actions from; others are the same in every episode.
            observation_space: What a blind agent is shown; None is what the model shows.
        """
        if not self.blind:
            return self.agent
        space = self.agent.observation_space if observation_space is None else observation_space
        return RandomAgent(space, self.agent.action_space, generator=seed)

    @property
    def portable(self) -> bool:
        """Whether a worker process can make the same agent."""
        if self.blind or is_savable(self.agent):
            return True
        if isinstance(self.agent, MPCAgent):
            return self.agent.name is not None
        return _foreign_format(self.agent) is not None

    def hand_over(self, model: WorldModel, folder: Path) -> AgentDescription:
        """Write to `folder` what a worker process needs to make the same agent, exact to the bit.

        Raises:
            ConfigurationError: An agent that no other process can make, or a planner that dreams with another model.
        """
        if self.blind:
            return AgentDescription(self.label, RANDOM)
        if is_savable(self.agent):
            kind = type(self.agent)
            return AgentDescription(self.label, str(save_agent(self.agent, folder)), kind=kind)
        if isinstance(self.agent, MPCAgent) and self.agent.name is not None:
            # A copy with another real environment dreams the same
            own = self.agent.world_model
            if own.vision is not model.vision or own.memory is not model.memory:
                raise ConfigurationError(
                    "the planner dreams with another model than it is scored on; use workers=0, or score it on its "
                    "own: evaluate(agent.world_model, agent)"
                )
            alone, guide = split_guide(self.agent.name)
            if guide is None:
                return AgentDescription(self.label, alone)
            return AgentDescription(self.label, alone, guide=str(save_agent(self.agent.guided_by, folder)))
        foreign = _foreign_format(self.agent)
        if foreign is None:
            raise ConfigurationError(
                f"an agent of class {type(self.agent).__name__} cannot be handed to worker processes; use workers=0"
            )
        library, algo = foreign
        file = folder / "agent.zip"
        FOREIGN_FORMATS[library].save(self.agent, file)
        return AgentDescription(self.label, str(file), f"{library}:{algo}")


@dataclass(frozen=True)
class AgentDescription:
    """An agent as another process makes it; it can be pickled.

    Attributes:
        label: As in `ResolvedAgent`.
        name: A file, "random", or a planner's name.
        algo: As for `load_agent`.
        kind: The agent's class, which the process may not have registered.
        guide: The file of a planner's guide.
    """

    label: str
    name: str
    algo: str | None = None
    kind: type[SavableAgent] | None = None
    guide: str | None = None

    def moved(self, source: Path, target: Path) -> AgentDescription:
        """The same where its file lies in folder `target` instead of `source`, either of them relative or not."""
        if self.guide is not None:
            return replace(self, guide=str(target / Path(self.guide).relative_to(source)))
        if self.kind is None and self.algo is None:
            return self  # a name, not a file
        return replace(self, name=str(target / Path(self.name).relative_to(source)))

    def resolve(self, model: WorldModel) -> ResolvedAgent:
        """The agent, in this process."""
        if self.kind is not None:
            AGENTS.add(self.kind.kind, self.kind)
        return resolve_agent(with_guide(self.name, self.guide), model, algo=self.algo, label=self.label)


# What names an agent, or is one
AnyAgent = Agent | ResolvedAgent | str | Path


def resolve_agent(
    agent: AnyAgent | None,
    model: WorldModel,
    *,
    source: WorldModel | str | Path | None = None,
    algo: str | None = None,
    otherwise: str | None = None,
    label: str | None = None,
) -> ResolvedAgent:
    """The agent that is meant, checked against a world model.

    Args:
        agent: An agent; "random" (uniform over the action space); a planner in the dream of `model`
            ("planner:cem,horizon=12"; see `mpc_agent`); a registered id, whose bundle's agent is taken; a folder with
            agent.safetensors; a file. None is the agent that lies in the bundle `source`.
        model: Through which it sees; in whose dream a planner plans.
        source: Id or folder of the model; a model itself has no agent.
        algo: As for `load_agent`.
        otherwise: What None is where the bundle holds no agent, such as "random"; by default that is an error.
        label: Its name in reports; by default what it was given by.

    Raises:
        UnknownDreamError, BundleError, MissingExtraError: It cannot be loaded.
        SpaceMismatchError: Its spaces are not those of the model.
        ConfigurationError: There is no agent to take, what is no agent, `algo` for what is not a file, or as for
            `load_agent`.
    """
    is_random = isinstance(agent, str) and agent == RANDOM
    if algo is not None and (is_random or not isinstance(agent, (str, Path))):
        raise ConfigurationError(
            f"algo={algo!r} is for a model of stable-baselines3 in a file; name it: --agent FILE.zip --algo {algo}"
        )
    if isinstance(agent, ResolvedAgent):
        found, shown = agent.agent, agent.label
    elif agent is None:
        if source is None or isinstance(source, WorldModel):
            raise ConfigurationError("give an agent, or name the world model by id or folder to take the shipped one")
        place = agent_folder(source)
        if otherwise is not None and place is None:
            return resolve_agent(otherwise, model, label=label)
        beside = place is not None and place != resolve_bundle(source)[0]
        found, shown = load_agent(source), str(place) if beside else SHIPPED
    elif isinstance(agent, (str, Path)):
        found, shown = load_agent(agent, algo=algo, world_model=model), str(agent)
    elif isinstance(agent, Agent):
        found, shown = agent, getattr(agent, "kind", type(agent).__name__)
    else:
        raise ConfigurationError(
            f"got {type(agent).__name__}, expected an agent: its name, or an object with observation_space, "
            "action_space and predict(observation, state, episode_start, deterministic)"
        )
    blind = is_random or (isinstance(agent, ResolvedAgent) and agent.blind)
    kind = observation_kind(found, model)
    check_fits(found, model, kind)
    return ResolvedAgent(label or shown, found, kind, blind)


@overload
def load_agent(id_or_path: str | Path) -> SavableAgent: ...


@overload
def load_agent(
    id_or_path: str | Path, *, algo: str | None = None, world_model: WorldModel | str | Path | None = None
) -> Agent: ...


def load_agent(
    id_or_path: str | Path, *, algo: str | None = None, world_model: WorldModel | str | Path | None = None
) -> Agent:
    """The agent of a registered id (its bundle's), of a folder with agent.safetensors, or of a file; or a planner.

    Args:
        id_or_path: Where it is.
        algo: The algorithm of stable-baselines3 that saved the zip at `id_or_path` ("ppo", "sac", ...), or
            "LIBRARY:ALGORITHM" of another library that is registered. Such a file holds pickled parts, which may run
            any code: name the algorithm only of files that you trust.
        world_model: The model, id or bundle in whose dream `planner:SCHEME[,SETTING=VALUE...]` plans (see `mpc_agent`),
            whose actions "random" draws, and whose actions the algorithm has to take. Agents that are read from files
            take none of it.

    Raises:
        UnknownDreamError: No such id, path or scheme; the nearest ids are named.
        BundleError: The file is missing, cut short, of a wrong sha256, of a newer format or of an unknown kind; or a
            zip of stable-baselines3 without `algo`.
        ConfigurationError, MissingExtraError: See `dreamenv.sb3.load_model` and `mpc_agent`; or "random" or a planner
            without `world_model`.
    """
    name, path = str(id_or_path), Path(id_or_path)
    if name.startswith(PREFIX) or name == RANDOM:
        if algo is not None:
            raise ConfigurationError(f"algo={algo!r} is for files of stable-baselines3, got {name!r}")
        if world_model is None:
            raise ConfigurationError(
                f"{name!r} acts for a world model: give it, as in load_agent({name!r}, world_model='DreamDoom-v0')"
            )
        model = open_world_model(world_model)
        if name == RANDOM:
            return RandomAgent(model.observation_space(), model.action_space, generator=0)
        return mpc_agent(name, model)
    if algo is not None:
        library, _, algorithm = algo.rpartition(":")
        actions = None if world_model is None else open_world_model(world_model).action_space
        return FOREIGN_FORMATS[library or _DEFAULT_FORMAT].load(path, algorithm, actions)
    if path.suffix == ".zip":
        raise BundleError(
            f"{path}: a model of stable-baselines3 holds pickled parts, so it is loaded only where its algorithm is "
            "named: --algo ppo, or load_agent(path, algo='ppo')"
        )
    scheme, colon, _ = name.partition(":")
    if colon and scheme != "dreamenv" and not path.exists() and path.name == str(path):
        planners = ", ".join(PREFIX + planner for planner in PLANNERS.names())
        raise UnknownDreamError(f"{name}: no scheme of agents is called {scheme!r}. Planners are called {planners}.")
    return read_agent_of(id_or_path, otherwise=f", {RANDOM!r}, or a planner such as {PREFIX}cem")


def find_agent_file(name: str) -> Path | None:
    """The file of an agent as `load_agent` finds it; None for what needs none, "random" and planners.

    Raises:
        UnknownDreamError: No such id or path.
    """
    if name == RANDOM or name.startswith(PREFIX):
        return None
    return agent_file_of(name)


def _foreign_format(agent: Agent) -> tuple[str, str] | None:
    """Library and algorithm of an agent whose class comes from a library with a registered format."""
    for base in type(agent).__mro__:
        library = base.__module__.partition(".")[0]
        if library in FOREIGN_FORMATS:
            algo = FOREIGN_FORMATS[library].algorithm_of(agent)
            return None if algo is None else (library, algo)
    return None
