"""Bundles as they are shipped: provenance and scores inside, a model card beside them, hashes in registry.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamenv import registry
from dreamenv.agents.base import SavableAgent
from dreamenv.agents.resolve import SHIPPED, load_agent
from dreamenv.agents.saved import AGENT_FILE
from dreamenv.bundle import StartStates
from dreamenv.errors import ConfigurationError, RegistryError
from dreamenv.files import sha256_of, write_bytes, write_text
from dreamenv.types import consumed_frames
from dreamenv.world_model import WorldModel

# A bundle is to stay under 16 MB.
MOST_STARTS = 2048
_SCORE_KEYS = ("real_id", "agent", "episodes", "mean", "std", "ci95", "real_frames")


_HELD_OUT = ("figure", "value", "what it is")
_MEANINGS = {
    "loss": "what the memory model (M) was fitted to make small, in nats",
    "reconstruction": "half the squared error of what is drawn, summed over what V and M are given",
    "divergence": "what an observation tells beyond what M expected, in nats",
    "latent_nll": "negative log likelihood of the next latent, in nats per latent dimension",
    "reward": "loss of the reward head",
    "termination": "loss of the head that predicts the end",
    "window_return_r2": "the same for the sum of the rewards over a window of steps; an agent learns from such sums",
}
_EXPLAINED = "share of the variance of single rewards that M explains"
_ONE_STEP_AHEAD = " one step ahead; low where chance decides in which step a reward comes"
# Each kind of memory has a recipe that measures it in its own way
_WHEN_EXPLAINED = {
    "mdn_rnn": _ONE_STEP_AHEAD,
    "probabilistic_ensemble": _ONE_STEP_AHEAD,
    "tabular": _ONE_STEP_AHEAD,
    "rssm": " once it has seen the observation that followed",
    "value_equivalent": " at the last step of an unroll",
}


def publish_bundle(
    name: str,
    run_dir: Path,
    registry_file: Path,
    *,
    score: dict[str, Any],
    baseline: dict[str, Any],
    commands: str = "",
    half: bool = False,
    license_name: str | None = None,
) -> Path:
    """Copy `<run_dir>/bundle` and `<run_dir>/agent` to the checkpoint folder of dream `name`.

    Args:
        name: Dream's id; must be an entry of `registry_file`.
        run_dir: A run with a bundle and an agent.
        registry_file: Its `sha256` entry for `name` is rewritten, the rest of the file stays as it is.
        score: JSON of `dreamenv eval` for this bundle and agent.
        baseline: The same for a random policy.
        commands: The commands that made the run, for the model card.
        half: Keep the weights in float16, where that does not change the dream (`WorldModel.save`). The score is of
            the run's own weights; the card tells the difference.
        license_name: Of the weights, for the model card; None says nothing of it.

    Returns:
        The checkpoint folder.

    Raises:
        UnknownDreamError: `registry_file` has no such dream.
        RegistryError: The entry is not written as an indented block.
        ConfigurationError: `name` is a latent twin's, the scores are of another real environment, or are not what
            `dreamenv eval` writes; or `half` would change the dream.
        BundleError: The run's bundle or agent is missing or not whole.
    """
    entry = registry.find_in(registry.read_registry(registry_file), name)
    if name != entry.id:
        raise ConfigurationError(f"{name} is the latent twin of {entry.id}; publish {entry.id}")
    _block(registry_file, name)  # refused before anything is written
    model = WorldModel.load(run_dir / "bundle")
    agent_file = run_dir / "agent" / AGENT_FILE
    agent = load_agent(agent_file)
    if model.real.id != entry.section.real.id:
        raise ConfigurationError(f"{name} is a dream of {entry.section.real.id}, the bundle one of {model.real.id}")
    for what, found in (("score", score), ("baseline", baseline)):
        if not isinstance(found, Mapping):
            raise ConfigurationError(f"the {what} is no object; give what `dreamenv eval --json` wrote")
        missing = sorted(set(_SCORE_KEYS) - found.keys())
        if missing:
            raise ConfigurationError(f"the {what} lacks {', '.join(missing)}; give what `dreamenv eval --json` wrote")
        if found["real_id"] != model.real.id:
            raise ConfigurationError(f"the {what} is of {found['real_id']}, the bundle of {model.real.id}")
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
    hashes = model.save(target, half=half)
    write_bytes(target / AGENT_FILE, agent_file.read_bytes())
    hashes[AGENT_FILE] = sha256_of(target / AGENT_FILE)
    write_text(target / "README.md", _card(name, model, agent, commands, half=half, license_name=license_name))
    _record_hashes(registry_file, name, hashes)
    return target


def _spread(rows: Tensor) -> Tensor:
    """At most `MOST_STARTS` rows, evenly spread (the rows are sorted by their moment in the episode)."""
    count = min(len(rows), MOST_STARTS)
    return rows[torch.linspace(0, len(rows) - 1, count).round().long()]


def _block(file: Path, name: str) -> tuple[str, re.Match[str]]:
    """The text of a registry file, and where in it the entry of `name` is.

    Raises:
        RegistryError: The entry is not written as an indented block, so that its comments could not be kept.
    """
    text = file.read_text(encoding="utf-8")
    section = re.search(rf"(?m)^  ([\"']?){re.escape(name)}\1:\n(?:(?:    .*)?\n)*", text)
    if section is None:
        raise RegistryError(f"{file}: the entry {name} is not written as an indented block")
    return text, section


def _record_hashes(file: Path, name: str, hashes: dict[str, str]) -> None:
    """Rewrite the `sha256` block of `name`, keeping the file's comments."""
    text, section = _block(file, name)
    block = "    sha256:\n" + "".join(f"      {key}: {value}\n" for key, value in hashes.items())
    body = re.sub(r"(?m)^    sha256:.*\n(?:      .*\n)*", "", section.group(0))
    body = re.sub(r"(?m)^(    checkpoint:.*\n)", lambda match: match.group(1) + block, body, count=1)
    write_text(file, text[: section.start()] + body + text[section.end() :])


def _card(
    name: str, model: WorldModel, agent: SavableAgent, commands: str, *, half: bool, license_name: str | None
) -> str:
    provenance = model.provenance
    score, baseline = provenance["score"], provenance["baseline"]
    parts = [("vision", model.vision.config()), ("memory", model.memory.config())]
    stages = dict(provenance.get("ledger", {}))
    stages["choosing the agent on validation seeds"] = consumed_frames(agent.provenance)
    stages["in all"] = score["real_frames"]
    precision = "float32 safetensors"
    if half:
        # A bundle that is shipped already may be scored again, and published with that
        when = "before" if score["agent"] == SHIPPED else "after"
        precision = (
            f"float16 safetensors, rounded from float32 {when} the score below; the rounding passed the check of "
            "`WorldModel.save`"
        )
    trained = "trained in the real environment" if _learned_in_reality(agent) else "trained only in the dream"
    held_out = {key: f"{value:.4g}" for key, value in provenance.get("held_out", {}).items()}
    card = f"""# {name}

A world model of `{model.real.id}`. Weights are {precision}{
        "" if license_name is None else f"; the license is {license_name}"
    }.

{_table(("part", "kind", "settings"), [_part(*part) for part in (*parts, ("agent", _of_agent(agent)))])}

## Score

On the real `{model.real.id}`, {score["episodes"]} whole episodes on evaluation seeds: no model or agent has
learned from them or was chosen by them.

{
        _table(
            ("agent", "mean", "standard deviation", "95% interval of the mean"),
            [_scored(f"shipped, {trained}", score), _scored("uniform random", baseline)],
        )
    }

## Real frames

One frame of the real environment, action repeat counted.

{_table(("stage", "real frames"), [(stage, _count(frames)) for stage, frames in stages.items()])}
"""
    if held_out:
        meanings = _MEANINGS | {"reward_r2": _EXPLAINED + _WHEN_EXPLAINED.get(model.memory.config()["kind"], "")}
        rows = [(key, value, meanings.get(key, "")) for key, value in held_out.items()]
        card += f"\n## Held-out episodes\n\nReal episodes that no fit has seen.\n\n{_table(_HELD_OUT, rows)}\n"
    if commands.strip():
        card += f"\n## How it was made\n\n```bash\n{commands.strip()}\n```\n"
    return f"""{card}
Intended for learning inside the dream and for research on model exploitation. The dream is wrong wherever its data was
thin; score every agent on the real environment.
"""


def _learned_in_reality(agent: SavableAgent) -> bool:
    return bool(agent.provenance.get("trained_in", "dream") != "dream")


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = (columns, ("---",) * len(columns), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _of_agent(agent: SavableAgent) -> dict[str, Any]:
    return {"kind": agent.kind, "observation": agent.observation, **agent.config()}


def _part(name: str, config: dict[str, Any]) -> tuple[str, str, str]:
    return name, str(config["kind"]), _settings(config)


def _settings(config: dict[str, Any]) -> str:
    parts = ((key, value) for key, value in config.items() if key != "kind")
    return ", ".join(
        f"{key}: {value['kind']} ({_settings(value)})"
        if isinstance(value, dict) and "kind" in value
        else f"{key}: {value}"
        for key, value in parts
    )


def _scored(agent: str, score: dict[str, Any]) -> tuple[str, str, str, str]:
    low, high = score["ci95"]
    return agent, f"{score['mean']:.1f}", f"{score['std']:.1f}", f"{low:.1f} to {high:.1f}"


def _count(frames: int | None) -> str:
    return "not recorded" if frames is None else f"{frames:,}"
