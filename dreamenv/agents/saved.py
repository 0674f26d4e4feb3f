"""Agents as files: one agent.safetensors holds the parameters and, as JSON, all that rebuilds the agent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeGuard

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dreamenv.agents.base import SavableAgent
from dreamenv.agents.kinds import AGENTS
from dreamenv.bundle import read_tensors, space_from_json, space_to_json
from dreamenv.errors import BundleError, DreamEnvError, did_you_mean
from dreamenv.files import write_bytes

FORMAT_VERSION = 1
AGENT_FILE = "agent.safetensors"


def save_agent(agent: SavableAgent, path: str | Path) -> Path:
    """Write `agent` to `path` (a .safetensors file, or a folder, where it is called agent.safetensors), atomically.

    Returns:
        The file written.

    Raises:
        BundleError: An agent of a kind that could not be loaded again.
    """
    if not is_savable(agent):
        kind = getattr(agent, "kind", type(agent).__name__)
        raise BundleError(f"agents of kind {kind!r} cannot be saved; these can: {', '.join(AGENTS.names())}")
    path = Path(path)
    file = path if path.suffix == ".safetensors" else path / AGENT_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "kind": agent.kind,
        "observation": agent.observation,
        "observation_space": json.dumps(space_to_json(agent.observation_space)),
        "action_space": json.dumps(space_to_json(agent.action_space)),
        "config": json.dumps(agent.config()),
        "provenance": json.dumps(agent.provenance),
    }
    tensors = {name: part.contiguous().cpu() for name, part in agent.tensors().items()}
    # save_file leaves files that their owner alone can read
    write_bytes(file, save(tensors, metadata=metadata))
    return file


def is_savable(agent: Any) -> TypeGuard[SavableAgent]:
    """Whether `save_agent` writes the agent and `read_agent` reads it again."""
    return isinstance(agent, SavableAgent) and agent.kind in AGENTS


def read_agent(file: Path, expected: dict[str, str] | None = None) -> SavableAgent:
    """The agent in `file`, whose sha256 is checked where `expected` names one for a file of that name.

    Raises:
        BundleError: The file is missing, cut short, of a wrong sha256, of a newer format or of an unknown kind.
    """
    tensors = read_tensors(file.parent, file.name, expected)
    metadata = _read_metadata(file)
    kind = metadata["kind"]
    if kind not in AGENTS:
        raise BundleError(f"{file}: kind is {kind!r}. {did_you_mean(kind, AGENTS.names())}")
    try:
        return AGENTS[kind].from_tensors(
            tensors,
            observation_space=space_from_json(json.loads(metadata["observation_space"])),
            action_space=space_from_json(json.loads(metadata["action_space"])),
            observation=metadata["observation"],
            provenance=json.loads(metadata["provenance"]),
            **json.loads(metadata["config"]),
        )
    except (KeyError, TypeError, ValueError, DreamEnvError) as error:
        raise BundleError(f"{file}: does not rebuild an agent of kind {kind!r}: {error}") from error


def _read_metadata(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except SafetensorError as error:
        raise BundleError(f"{file}: not a whole safetensors file (cut short?): {error}") from error
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise BundleError(
            f"{file}: format_version {version or 'missing'}, this dreamenv reads agents up to {FORMAT_VERSION}. "
            "Upgrade dreamenv, or give an agent.safetensors."
        )
    wanted = {"kind", "observation", "observation_space", "action_space", "config", "provenance"}
    missing = sorted(wanted - metadata.keys())
    if missing:
        raise BundleError(f"{file}: its metadata has no {', '.join(missing)}")
    return metadata
