"""The registers of agents: kinds that this package saves itself, and formats of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym

from dreamenv.agents.base import Agent, SavableAgent
from dreamenv.errors import ConfigurationError
from dreamenv.kinds import Register

AGENTS: Register[type[SavableAgent]] = Register(
    "agent",
    {
        "linear": "dreamenv.agents.controller:LinearController",
        "actor_critic": "dreamenv.agents.policy_agent:ActorCriticAgent",
        "distilled": "dreamenv.agents.distilled:DistilledAgent",
    },
)

# Of `SavableAgent`
SAVABLE_METHODS = ("predict", "tensors", "config", "from_tensors")


def register_agent(kind: str, agent: type[SavableAgent]) -> None:
    """Make agents of class `agent`, whose `kind` this is, known to `save_agent`, `load_agent` and worker processes.

    A package can do the same without being imported first, by an entry point: in its pyproject.toml
    `[project.entry-points."dreamenv.agent"]` with `kind = "package.module:Class"`.

    Raises:
        ConfigurationError: Another class has this name; or it is no class, has another `kind`, or lacks methods of
            `SavableAgent`.
    """
    missing = [name for name in SAVABLE_METHODS if not callable(getattr(agent, name, None))]
    if not isinstance(agent, type) or missing:
        lacks = f", which lacks {', '.join(missing)}" if missing else ""
        raise ConfigurationError(f"agent {kind!r}: expected a class of SavableAgent, got {agent!r}{lacks}")
    if getattr(agent, "kind", None) != kind:
        own = getattr(agent, "kind", None)
        raise ConfigurationError(f"agent {kind!r}: {agent.__name__}.kind is {own!r}, by which its files are read")
    AGENTS.add(kind, agent)


class ForeignFormat(Protocol):
    """How another library saves its agents. It is registered under the name of the library's package."""

    def load(self, file: Path, algo: str, action_space: gym.Space[Any] | None) -> Agent:
        """The agent that the library's algorithm `algo` has saved in `file`.

        Raises:
            ConfigurationError: No such algorithm, one that does not take actions of `action_space` (None: any), or a
                file of another algorithm.
            BundleError: The file is missing or not whole.
        """

    def algorithm_of(self, agent: Any) -> str | None:
        """The algorithm under which `load` reads what `save` writes of `agent`; None where it would not come back."""

    def save(self, agent: Any, file: Path) -> None:
        """Write `agent` to `file`, exact to the bit."""


FOREIGN_FORMATS: Register[ForeignFormat] = Register(
    "agent_format", {"stable_baselines3": "dreamenv.sb3.models:AGENT_FORMAT"}
)
