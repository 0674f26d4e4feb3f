"""Agents as files: one agent.safetensors holds the parameters and, as JSON, all that rebuilds the agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, overload

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from dreamenv.agents.actor_critic import ActorCriticAgent
from dreamenv.agents.base import Agent, SavableAgent
from dreamenv.agents.controller import LinearController
from dreamenv.agents.mpc import PREFIX, MPCAgent, mpc_agent
from dreamenv.bundle import read_tensors, resolve_bundle, space_from_json, space_to_json
from dreamenv.errors import BundleError, ConfigurationError, DreamEnvError, UnknownDreamError, did_you_mean
from dreamenv.files import write_bytes
from dreamenv.kinds import Register
from dreamenv.world_model import WorldModel

FORMAT_VERSION = 1
AGENT_FILE = "agent.safetensors"

# Readers of agents that another library has saved, called as `reader(path, algorithm)`
FOREIGN_FORMATS: Register[Callable[[Path, str], Any]] = Register(
    "agent_format", {"stable_baselines3": "dreamenv.sb3.models:load_model"}
)
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
    tensors = {name: part.contiguous().cpu() for name, part in agent.tensors().items()}
    # save_file leaves files that their owner alone can read
    write_bytes(file, save(tensors, metadata=metadata))
    return file


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
        algo: The algorithm of stable-baselines3 that saved the zip at `id_or_path` ("ppo", "sac", ...). Such a file
            holds pickled parts, which may run any code: name the algorithm only of files that you trust.
        world_model: The model, id or bundle in whose dream `planner:SCHEME[,SETTING=VALUE...]` plans; see `mpc_agent`.
            Agents that are read from files take none of it.

    Raises:
        UnknownDreamError: No such id, path or scheme; the nearest ids are named.
        BundleError: The file is missing, cut short, of a wrong sha256, of a newer format or of an unknown kind; or a
            zip of stable-baselines3 without `algo`.
        ConfigurationError, MissingExtraError: See `dreamenv.sb3.load_model` and `mpc_agent`; or a planner without
            `world_model`.
    """
    if str(id_or_path).startswith(PREFIX):
        if algo is not None:
            raise ConfigurationError(f"algo={algo!r} is for files of stable-baselines3, got the planner {id_or_path!r}")
        return _load_planner(str(id_or_path), world_model)
    path = Path(id_or_path)
    if algo is not None:
        return FOREIGN_FORMATS["stable_baselines3"](path, algo)
    if path.suffix == ".zip":
        raise BundleError(
            f"{path}: a model of stable-baselines3 holds pickled parts, so it is loaded only where its algorithm is "
            "named: --algo ppo, or load_agent(path, algo='ppo')"
        )
    expected: dict[str, str]
    if path.is_file() or path.suffix == ".safetensors":
        folder, name, expected = path.parent, path.name, {}
    else:
        scheme = str(id_or_path).partition(":")
        if scheme[1] and scheme[0] != "dreamenv" and not path.exists() and path.name == str(path):
            raise UnknownDreamError(
                f"{id_or_path}: there are no agents of scheme {scheme[0]!r}. Planners are called {PREFIX}cem, "
                f"{PREFIX}mppi, {PREFIX}shooting and {PREFIX}mcts."
            )
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


def _load_planner(name: str, world_model: WorldModel | str | Path | None) -> MPCAgent:
    if world_model is None:
        raise ConfigurationError(
            f"{name!r} plans in the dream of a world model: give it, as in load_agent({name!r}, "
            "world_model='DreamDoom-v0')"
        )
    return mpc_agent(name, world_model if isinstance(world_model, WorldModel) else WorldModel.load(world_model))


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
