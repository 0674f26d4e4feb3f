"""Where agents lie: in a file, a folder, a run, or with the bundle of a registered dream."""

from __future__ import annotations

from pathlib import Path

from dreamenv import registry
from dreamenv.agents.base import SavableAgent
from dreamenv.agents.saved import AGENT_FILE, read_agent
from dreamenv.bundle import resolve_bundle
from dreamenv.bundle_config import CONFIG_FILE
from dreamenv.errors import BundleError, UnknownDreamError


def read_agent_of(id_or_path: str | Path, *, otherwise: str = "") -> SavableAgent:
    """The agent of a registered id (its bundle's), of a folder with agent.safetensors, or of a file.

    Args:
        id_or_path: Where it is.
        otherwise: What else the caller takes, for the error's message.

    Raises:
        UnknownDreamError: No such id or path; the nearest ids are named.
        BundleError: The file is missing, cut short, of a wrong sha256, of a newer format or of an unknown kind.
    """
    path = Path(id_or_path)
    if path.is_file() or path.suffix == ".safetensors":
        return read_agent(path)
    folder, expected = _bundle_with_agent(id_or_path, otherwise)
    folder = agent_folder(id_or_path) or folder
    # A registry that knows the agent's hash promises one: a file that is missing there is a broken installation
    if not (folder / AGENT_FILE).exists() and AGENT_FILE not in expected:
        where = _where_one_may_be(str(id_or_path), folder)
        raise BundleError(f"{folder}: there is no agent here yet (no {AGENT_FILE}). {where}")
    return read_agent(folder / AGENT_FILE, expected)


def agent_folder(id_or_path: str | Path) -> Path | None:
    """Where the agent of an id, a run or a bundle lies: with the bundle, or in the folder `agent` of its run."""
    path, bundle = registry.folder_of(id_or_path), resolve_bundle(id_or_path)[0]
    run = bundle.parent if bundle.name == "bundle" else bundle
    # What a run has learned last goes before what was published with its bundle
    own = () if path is None else (path,) if path == bundle else (path, path / "agent")
    return next((place for place in (*own, bundle, run / "agent") if (place / AGENT_FILE).exists()), None)


def agent_file_of(id_or_path: str | Path) -> Path:
    """The file that `read_agent_of` reads.

    Raises:
        UnknownDreamError: No such id or path.
    """
    path = Path(id_or_path)
    return path if path.is_file() else (agent_folder(id_or_path) or resolve_bundle(id_or_path)[0]) / AGENT_FILE


def _bundle_with_agent(id_or_path: str | Path, otherwise: str) -> tuple[Path, dict[str, str]]:
    """As `resolve_bundle`, whose errors speak of dreams."""
    try:
        return resolve_bundle(id_or_path)
    except UnknownDreamError as error:
        raise UnknownDreamError(
            f"no agent is called {str(id_or_path)!r}: it is an id, a folder, a file{otherwise}. {error}"
        ) from error


def _where_one_may_be(name: str, folder: Path) -> str:
    """What to do about a folder without an agent."""
    for near in (folder / "agent", folder.parent / "agent"):
        if (near / AGENT_FILE).exists():
            return f"There is one in {near}: --agent {near}, or agent={str(near)!r}"
    if (folder / CONFIG_FILE).exists():
        return f"Make one: dreamenv evolve {name} --out AGENT, then give --agent AGENT. Or give --agent random"
    return "Give the folder that `dreamenv evolve` wrote"
