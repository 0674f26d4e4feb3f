"""A preset file for an environment that somebody brings, with comments for whoever edits it."""

from __future__ import annotations

from typing import Any

from dreamenv.data.survey import Survey
from dreamenv.files import yaml_text

# Real frames that are a beginning
_FRAMES_OF_VECTORS, _FRAMES_OF_PICTURES = 20_000, 100_000
_DREAM_WITHOUT_LIMIT = 1000


def preset_text(found: Survey) -> str:
    """The text of a preset file, of the form of registry.yaml, for what `survey` found."""
    spec = found.spec
    bare = spec.id.rpartition(":")[2].rpartition("/")[2]
    bare = bare if "-v" in bare else f"{bare}-v0"
    lines = [
        "# A preset for dreamenv, written by `dreamenv init`. Edit it, then: dreamenv train --config THIS-FILE",
        *(f"# {line}" for line in found.lines),
        "format: 1",
        "environments:",
        f"  Dream{bare}:",
        f"    latent_id: Latent{bare}",
        "    checkpoint: bundle",
        "    real:",
        f"      id: {_inline(spec.id)}",
        "      kwargs: {}                  # of gym.make: numbers, text, lists; a tuple is {__tuple__: [1, 2]}",
        "      wrappers: []                # such as {path: 'my_env:Grey', kwargs: {keep: 1}}, the first one innermost",
        *_observation_lines(found),
        "      action_repeat: 1            # real frames an action; their rewards are added up",
        *_limit_lines(found),
        "    dream:",
        f"      max_episode_steps: {found.limit or _DREAM_WITHOUT_LIMIT}     # in actions: real frames / action_repeat",
        "      temperature: 1.0            # above 1 the dream is harder",
        *_explore_lines(found),
        "    train:",
        f"      frames: {_FRAMES_OF_PICTURES if found.is_image else _FRAMES_OF_VECTORS}               # real ones",
        "      recipe: mdn_rnn             # or rssm, ensemble, value_equivalent, tabular; see the page Train your own",
        "      options:",
        *_option_lines(found),
    ]
    return "\n".join(lines) + "\n"


def _observation_lines(found: Survey) -> list[str]:
    lines = []
    if found.keys:
        names, chosen = ", ".join(found.keys), _inline(found.spec.observation_key)
        lines = [f"      observation_key: {chosen}       # one of {names}; or a list of vectors, joined to one"]
    if found.is_image:
        lines += ["      crop: null                  # [top, bottom, left, right] of a picture to keep, in pixels"]
    return lines


def _limit_lines(found: Survey) -> list[str]:
    if found.limit is not None:
        return [f"      max_episode_steps: {found.limit}      # the environment's own time limit, in real frames"]
    return ["      max_episode_steps: null     # it has no time limit; give one if an episode may never end"]


def _explore_lines(found: Survey) -> list[str]:
    if not found.explore:
        return []
    lines = ["    explore:                      # policies by weight; see the page Train your own"]
    for policy in found.explore:
        lines += [f"      - policy: {policy.policy}", f"        weight: {policy.weight:g}"]
    return lines


def _option_lines(found: Survey) -> list[str]:
    if found.is_image:
        return [
            "        vision: {latent_size: 32, channels: 32}",
            "        memory: {hidden_size: 256}",
            "        fit_vision: {steps: 5000}",
            "        fit_memory: {steps: 4000}",
        ]
    return ["        memory: {hidden_size: 128}", "        fit_memory: {steps: 3000}"]


def _inline(value: Any) -> str:
    return yaml_text(value, flow=True).strip().removesuffix("...").strip()
