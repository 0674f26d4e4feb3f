"""Bundles as they are shipped: provenance and scores inside, a model card beside them, hashes in registry.yaml."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamenv import registry
from dreamenv.agents.base import SavableAgent
from dreamenv.agents.resolve import load_agent
from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError, RegistryError
from dreamenv.files import sha256_of
from dreamenv.world_model import WorldModel

# A bundle is to stay under 16 MB.
MOST_STARTS = 2048
_SCORE_KEYS = ("real_id", "agent", "episodes", "mean", "std", "ci95", "real_frames")


def publish_bundle(
    name: str,
    run_dir: Path,
    registry_file: Path,
    *,
    score: dict[str, Any],
    baseline: dict[str, Any],
    commands: str = "",
) -> Path:
    """Copy `<run_dir>/bundle` and `<run_dir>/agent` to the checkpoint folder of dream `name`.

    Args:
        name: Dream's id; must be an entry of `registry_file`.
        run_dir: A run with a bundle and an agent.
        registry_file: Its `sha256` entry for `name` is rewritten, the rest of the file stays as it is.
        score: JSON of `dreamenv eval` for this bundle and agent.
        baseline: The same for a random policy.
        commands: The commands that made the run, for the model card.

    Returns:
        The checkpoint folder.

    Raises:
        UnknownDreamError: `registry_file` has no such dream.
        ConfigurationError: The scores are of another real environment.
    """
    entry = registry.find_in(registry.read_registry(registry_file), name)
    model = WorldModel.load(run_dir / "bundle")
    for found in (score, baseline):
        if found["real_id"] != model.real.id:
            raise ConfigurationError(f"the score is of {found['real_id']}, the bundle of {model.real.id}")
    model.provenance["score"] = {key: score[key] for key in _SCORE_KEYS}
    model.provenance["baseline"] = {key: baseline[key] for key in _SCORE_KEYS}
    model.temperature = entry.section.dream.temperature
    model.max_episode_steps = entry.section.dream.max_episode_steps
    starts = model.starts
    model.starts = StartStates(
        _spread(starts.first),
        {field: _spread(part) for field, part in starts.replay.items()},
        {field: _spread(part) for field, part in starts.settled.items()},
    )
    target = entry.checkpoint
    hashes = model.save(target)
    shutil.copyfile(run_dir / "agent" / "agent.safetensors", target / "agent.safetensors")
    hashes["agent.safetensors"] = sha256_of(target / "agent.safetensors")
    (target / "README.md").write_text(_card(name, model, load_agent(target), commands), encoding="utf-8")
    _record_hashes(registry_file, name, hashes)
    return target


def _components(memory: dict[str, Any]) -> str:
    return "joint mixture components" if memory.get("components") == "joint" else "mixtures a latent dimension"


def _spread(rows: Tensor) -> Tensor:
    """At most `MOST_STARTS` rows, evenly spread (the rows are sorted by their moment in the episode)."""
    count = min(len(rows), MOST_STARTS)
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def _record_hashes(file: Path, name: str, hashes: dict[str, str]) -> None:
    """Rewrite the `sha256` block of `name`, keeping the file's comments."""
    text = file.read_text(encoding="utf-8")
    block = "    sha256:\n" + "".join(f"      {key}: {value}\n" for key, value in hashes.items())
    section = re.search(rf"(?ms)^  {re.escape(name)}:\n(?:(?:    .*)?\n)*", text)
    if section is None:
        raise RegistryError(f"{file}: the entry {name} is not written as an indented block")
    body = re.sub(r"(?m)^    sha256:.*\n(?:      .*\n)*", "", section.group(0))
    body = re.sub(r"(?m)^(    checkpoint:.*\n)", lambda match: match.group(1) + block, body, count=1)
    file.write_text(text[: section.start()] + body + text[section.end() :], encoding="utf-8")


def _card(name: str, model: WorldModel, agent: SavableAgent, commands: str) -> str:
    provenance = model.provenance
    score, baseline = provenance["score"], provenance["baseline"]
    ledger = "\n".join(f"| {stage} | {frames:,} |" for stage, frames in provenance["ledger"].items())
    held_out = "\n".join(f"| {key} | {value:.4g} |" for key, value in provenance["held_out"].items())
    vision, memory = model.vision.config(), model.memory.config()
    return f"""# {name}

A world model of `{model.real.id}`: a {vision["kind"]} with {model.vision.latent_size} latents for vision, an
{memory["kind"]} with {memory["hidden_size"]} hidden units and {memory["mixtures"]} {_components(memory)} for
memory, an agent of kind {agent.kind}. Weights are fp16 safetensors; the license is that of dreamenv (MIT).

## Score

On the real `{model.real.id}`, {score["episodes"]} whole episodes on evaluation seeds, which chose nothing:

| agent | mean | standard deviation | 95% interval of the mean |
|---|---|---|---|
| shipped, trained only in the dream | {score["mean"]:.1f} | {score["std"]:.1f} | {_interval(score)} |
| uniform random | {baseline["mean"]:.1f} | {baseline["std"]:.1f} | {_interval(baseline)} |

## Real frames

One frame of the real environment, action repeat counted.

| stage | real frames |
|---|---|
{ledger}
| choosing the agent on validation seeds | {agent.provenance.get("real_frames", 0):,} |
| in all | {score["real_frames"]:,} |

## Held-out episodes

| figure | value |
|---|---|
{held_out}

## How it was made

```bash
{commands.strip()}
```

Intended for learning inside the dream and for research on model exploitation. The dream is wrong wherever its data was
thin; score every agent on the real environment.
"""


def _interval(score: dict[str, Any]) -> str:
    return f"{score['ci95'][0]:.1f} to {score['ci95'][1]:.1f}"
