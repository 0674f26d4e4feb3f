"""`dreamenv list`."""

from __future__ import annotations

from typing import Any

from dreamenv.cli import app
from dreamenv.cli.options import JsonFile
from dreamenv.cli.overview import LOOK
from dreamenv.errors import DreamEnvError
from dreamenv.registry import DreamEntry
from dreamenv.types import consumed_frames

OWN = "set DREAMENV_REGISTRY to the registry.yaml of a run, or call dreamenv.register(FILE) in Python"


@app.command("list", rich_help_panel=LOOK)
def list_dreams(
    json_file: JsonFile = None,
) -> None:
    """List the dreams that are registered, and what each bundle holds.

    Example: dreamenv list --json dreams.json
    """
    from dreamenv.cli.output import Output
    from dreamenv.registry import entries

    output = Output(json_file)
    dreams = [_describe(entry) for entry in entries().values()]
    rows = []
    for dream in dreams:
        size = f"{dream['bundle_bytes'] / 1e6:.1f} MB" if dream["bundle_present"] else "not there"
        size = size if dream["damaged"] is None else "damaged"
        frames = "-" if dream["real_frames"] is None else f"{dream['real_frames']:,}"
        rows.append((dream["id"], dream["latent_id"], dream["real_id"], size, frames, _show_score(dream["score"])))
    titles = ("id", "latent twin", "real environment", "bundle", "real frames", "shipped agent's score")
    output.table(titles, rows, numbers=("bundle", "real frames"))
    for dream in dreams:
        if dream["damaged"] is not None:
            output.line(f"damaged: {dream['damaged']}")
    output.line(f"own dreams: {OWN}")
    output.next("serve", next(iter(entries()), "ID"))
    output.figures(dreams)


def _describe(entry: DreamEntry) -> dict[str, Any]:
    """A dream's entry and what its bundle records; the model is not loaded."""
    from dreamenv.agents.saved import AGENT_FILE, read_agent_provenance
    from dreamenv.bundle_config import CONFIG_FILE, WEIGHTS_FILE, read_config

    config, agent_file = entry.checkpoint / CONFIG_FILE, entry.checkpoint / AGENT_FILE
    agent, provenance, damaged = None, dict[str, Any](), None
    try:
        agent = read_agent_provenance(agent_file) if agent_file.exists() else None
        provenance = read_config(entry.checkpoint)["provenance"] if config.exists() else {}
    except DreamEnvError as error:  # the others are listed all the same
        damaged = str(error)
    present = config.exists() and (entry.checkpoint / WEIGHTS_FILE).exists()
    files = [file for file in entry.checkpoint.iterdir() if file.is_file()] if present else []
    return {
        "id": entry.id,
        "latent_id": entry.section.latent_id,
        "real_id": entry.section.real.id,
        "bundle": str(entry.checkpoint),
        "bundle_present": present,
        "damaged": damaged,
        "bundle_bytes": sum(file.stat().st_size for file in files),
        "real_frames": consumed_frames(provenance, *([] if agent is None else [agent])),
        "score": _score(provenance, agent),
    }


def _score(provenance: dict[str, Any], agent: dict[str, Any] | None) -> dict[str, Any] | None:
    """Mean, and where they are known std and episodes, of the real score that the bundle records."""
    for key, role in (("score", "evaluation"), ("validation", "validation")):
        for part in (provenance, agent or {}):
            if isinstance(part.get(key), dict) and "mean" in part[key]:
                return {name: part[key].get(name) for name in ("mean", "std", "episodes")} | {"of": role}
    return None


def _show_score(score: dict[str, Any] | None) -> str:
    if score is None:
        return "-"
    spread = f" ± {score['std']:.0f}" if score["std"] is not None else ""
    episodes = f", {score['episodes']} episodes" if score["episodes"] is not None else ""
    return f"{score['mean']:.0f}{spread} ({score['of']}{episodes})"
