"""Agents as files: one agent.safetensors holds the parameters and, as JSON, all that rebuilds the agent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dreamenv.agents.actor_critic import ActorCriticAgent
from dreamenv.agents.base import SavableAgent
from dreamenv.agents.controller import LinearController
from dreamenv.errors import BundleError, DreamEnvError, did_you_mean
from dreamenv.world_model import read_tensors, resolve_bundle, space_from_json, space_to_json

FORMAT_VERSION = 1
AGENT_FILE = "agent.safetensors"

# Every agent that can be saved, by its `kind`: a new one is added here.
AGENT_KINDS: dict[str, type[SavableAgent]] = {
    LinearController.kind: LinearController,
    ActorCriticAgent.kind: ActorCriticAgent,
}


def save_agent(agent: SavableAgent, path: str | Path) -> Path:
    """Write `agent` to `path` (a .safetensors file, or a folder, where it is called agent.safetensors), atomically.

    Returns:
        The file written.

    Raises:
        BundleError: An agent of a kind that could not be loaded again.
    """
    if not isinstance(agent, SavableAgent) or agent.kind not in AGENT_KINDS:
        kind = getattr(agent, "kind", type(agent).__name__)
        raise BundleError(f"agents of kind {kind!r} cannot be saved; these can: {', '.join(sorted(AGENT_KINDS))}")
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
    temporary = file.with_name(f".{file.name}.part")
    save_file({name: part.contiguous().cpu() for name, part in agent.tensors().items()}, temporary, metadata=metadata)
    os.replace(temporary, file)
    return file


def load_agent(id_or_path: str | Path) -> SavableAgent:
    """The agent of a registered id (its bundle's), of a folder that holds agent.safetensors, or of a file.

    Raises:
        UnknownDreamError: No such id or path; the nearest ids are named.
        BundleError: The file is missing, cut short, of a wrong sha256, of a newer format or of an unknown kind.
    """
    path = Path(id_or_path)
    expected: dict[str, str]
    if path.is_file() or path.suffix == ".safetensors":
        folder, name, expected = path.parent, path.name, {}
    else:
        folder, expected = resolve_bundle(id_or_path)
        name = AGENT_FILE
    file = folder / name
    tensors = read_tensors(folder, name, expected)
    metadata = _read_metadata(file)
    kind = metadata["kind"]
    if kind not in AGENT_KINDS:
        raise BundleError(f"{file}: kind is {kind!r}. {did_you_mean(kind, AGENT_KINDS)}")
    try:
        return AGENT_KINDS[kind].from_tensors(
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
