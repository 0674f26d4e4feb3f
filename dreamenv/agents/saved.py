"""Agents as files: one agent.safetensors holds the parameters and, as JSON, all that rebuilds the agent."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeGuard

from dreamenv.agents.base import SavableAgent
from dreamenv.agents.kinds import AGENTS, SAVABLE_METHODS
from dreamenv.bundle_config import space_from_json, space_to_json
from dreamenv.errors import BundleError, ConfigurationError, DreamEnvError
from dreamenv.files import parse_json
from dreamenv.schema import Sha256, Strict, checked
from dreamenv.tensor_files import built_within, read_header, read_sealed, write_sealed

FORMAT_VERSION = 2
AGENT_FILE = "agent.safetensors"
_JSON = ("observation_space", "action_space", "config", "provenance")


class AgentSection(Strict):
    """Metadata of an agent's file; spaces and `config` are checked by what is made of them, `provenance` is free."""

    format_version: Literal["2"]
    kind: str
    observation: Literal["features", "latent", "pixels", "state"]
    observation_space: dict[str, Any]
    action_space: dict[str, Any]
    config: dict[str, Any]
    provenance: dict[str, Any]
    sha256: Sha256


# Of `SavableAgent`
_MEMBERS = ("kind", "provenance", "observation", "observation_space", "action_space", *SAVABLE_METHODS)


def save_agent(agent: SavableAgent, path: str | Path) -> Path:
    """Write `agent` to `path` (a .safetensors file, or a folder, where it is called agent.safetensors), atomically.

    The same agent gives the same bytes.

    Returns:
        The file written.

    Raises:
        BundleError: An agent of a kind that could not be loaded again.
    """
    missing = [name for name in _MEMBERS if not hasattr(agent, name)]
    if missing and getattr(agent, "kind", None) in AGENTS:
        raise BundleError(f"{type(agent).__name__} lacks {', '.join(missing)}, which SavableAgent has")
    if not is_savable(agent):
        kind = getattr(agent, "kind", type(agent).__name__)
        raise BundleError(f"agents of kind {kind!r} cannot be saved; these can: {', '.join(AGENTS.names())}")
    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / AGENT_FILE
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "kind": agent.kind,
        "observation": agent.observation,
        "observation_space": json.dumps(space_to_json(agent.observation_space)),
        "action_space": json.dumps(space_to_json(agent.action_space)),
        "config": json.dumps(agent.config()),
        "provenance": json.dumps(agent.provenance),
    }
    write_sealed(file, agent.tensors(), metadata)
    return file


def check_free(folder: Path, own: str) -> None:
    """Refuse to learn in a folder whose agent is another run's, such as a loop's best one: it would be overwritten.

    Args:
        folder: Where the agent is to be written.
        own: The file by which what learns there knows a run of its own.

    Raises:
        ConfigurationError: There is an agent, and no such file.
    """
    if (folder / AGENT_FILE).exists() and not (folder / own).exists():
        raise ConfigurationError(
            f"{folder} holds an agent that was learned otherwise and would be overwritten. Take another folder "
            f"(--out), or move {AGENT_FILE} away"
        )


def is_savable(agent: Any) -> TypeGuard[SavableAgent]:
    """Whether `save_agent` writes the agent and `read_agent` reads it again."""
    return isinstance(agent, SavableAgent) and agent.kind in AGENTS


def read_agent(file: Path, expected: dict[str, str] | None = None) -> SavableAgent:
    """The agent in `file`, whose sha256 is checked where `expected` names one for a file of that name.

    Raises:
        BundleError: The file is missing, cut short, changed since it was saved, of a newer format or of an unknown
            kind, or what it holds is not finite or does not fit.
    """
    tensors, metadata = read_sealed(file, (expected or {}).get(file.name))
    section = _section(file, metadata)
    if section.kind not in AGENTS:
        raise BundleError(f"{file}: kind is {section.kind!r}. {AGENTS.known(section.kind)}")
    spaces = {
        name: space_from_json(getattr(section, name), f"{file}: {name}")
        for name in ("observation_space", "action_space")
    }
    build = partial(
        AGENTS[section.kind].from_tensors,
        tensors,
        **spaces,
        observation=section.observation,
        provenance=section.provenance,
    )
    try:
        return built_within(partial(build, **section.config), sum(part.numel() for part in tensors.values()))
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, DreamEnvError) as error:
        raise BundleError(f"{file}: does not rebuild an agent of kind {section.kind!r}: {error}") from error


def read_agent_provenance(file: Path) -> dict[str, Any]:
    """How the agent in `file` came about; its tensors are not read.

    Raises:
        BundleError: The file is missing or not an agent's.
    """
    return _section(file, read_header(file).metadata).provenance


def _section(file: Path, metadata: dict[str, str]) -> AgentSection:
    version = metadata.get("format_version", "")
    if version != str(FORMAT_VERSION):
        raise BundleError(
            f"{file}: format_version {version or 'missing'}, this dreamenv reads agents of {FORMAT_VERSION}. "
            "Upgrade dreamenv, or give an agent.safetensors."
        )
    found: dict[str, Any] = dict(metadata)
    for name in _JSON:
        if name in found:
            try:
                found[name] = parse_json(metadata[name])
            except ValueError as error:
                raise BundleError(f"{file}: {name}: not JSON: {error}") from error
    return checked(AgentSection, found, file)
