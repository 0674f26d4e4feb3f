"""Labelled figures: what V reconstructs, what M dreams beside what really followed, and how an evolution went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dreamenv.agents.exploration import AgentActor
from dreamenv.agents.resolve import AnyAgent, ResolvedAgent, resolve_agent
from dreamenv.data.collect import record_episode
from dreamenv.data.explore import POLICIES, Actor, Noisy, default_exploration
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import BundleError, ConfigurationError
from dreamenv.figures.canvas import DREAM_COLOUR, REAL_COLOUR, line_grid, new_figure, picture_grid
from dreamenv.schema import read_any
from dreamenv.scoring.horizons import HORIZONS, check_horizons
from dreamenv.training.panels import open_loop, reconstruct, seen_latents
from dreamenv.types import Episode, episode_seeds
from dreamenv.world_model import WorldModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def record_episodes(
    model: WorldModel,
    *,
    least: int,
    count: int = 2,
    seed: int = 0,
    agent: AnyAgent | None = None,
    tries: int = 20,
) -> list[Episode]:
    """Fresh real episodes with at least `least` usable actions, on validation seeds.

    Args:
        model: The world model whose real environment is played.
        least: Actions after each of which the observation is a real one.
        count: How many.
        seed: Which.
        agent: An agent or its name (see `resolve_agent`) that drives with a little noise; None explores at random.
        tries: Episodes played at most, agent and random exploration in turn after half of them.

    Raises:
        ConfigurationError: None of the episodes played is long enough.
    """
    player = None if agent is None else resolve_agent(agent, model)
    env = make_real_env(model.real)
    env.act_like(model.action_space)
    found: list[Episode] = []
    longest = 0
    try:
        for index, episode_seed in enumerate(episode_seeds("validation", seed, tries)):
            rng = np.random.default_rng([seed, index])
            by_agent = index < tries // 2 or index % 2 == 0
            actor = _actor(model, env.action_space, rng, player if by_agent else None)
            episode = record_episode(env, actor, seed=episode_seed)
            longest = max(longest, episode.usable_steps)
            if episode.usable_steps >= least:
                found.append(episode)
                if len(found) == count:
                    break
    finally:
        env.close()
    if not found:
        raise ConfigurationError(
            f"the longest of {tries} episodes of {model.real.id} has {longest} actions, {least} are needed; "
            "give smaller --horizons, another --seed, or an --agent that lasts longer"
        )
    return found


def reconstruction_figure(model: WorldModel, episodes: Sequence[Episode], *, columns: int = 8) -> Figure:
    """Real frames spread over `episodes` in the first row, V's reconstructions in the second.

    Raises:
        ConfigurationError: V is the identity: vector observations have nothing to reconstruct.
    """
    if not model.vision.is_image:
        raise ConfigurationError(f"{model.real.id} has vector observations; V is the identity and reconstructs nothing")
    begin = model.real.first_moment
    pool = np.concatenate([e.observations[min(begin, len(e) - 1) : e.usable_steps + 1] for e in episodes])
    frames = pool[np.linspace(0, len(pool) - 1, columns).astype(int)]
    rows = [("real", frames), ("V's reconstruction", reconstruct(model, frames))]
    return picture_grid(rows, [""] * columns, f"{model.real.id}: what V sees")


def open_loop_figure(
    model: WorldModel,
    episode: Episode,
    *,
    horizons: Sequence[int] = HORIZONS,
    context: int | None = None,
    samples: int = 3,
    seed: int = 0,
    temperature: float = 1.0,
) -> Figure:
    """What really followed, V's view of it, and open-loop dreams of the same moment under the same actions.

    Pictures have a column a horizon; vector observations are drawn as lines of their first four dimensions.

    Args:
        model: The world model.
        episode: A real episode.
        horizons: Dreamed actions after which to compare, each at least 1.
        context: Real actions M sees first; None takes the middle of what fits.
        samples: Dreams.
        seed: Of the dreams' noise.
        temperature: Of the dreams.

    Raises:
        ConfigurationError: Horizons that are not positive or do not fit into the episode.
    """
    horizons = check_horizons(horizons)
    room = episode.usable_steps - horizons[-1]
    if context is None:
        context = max(min(model.real.first_moment, room), room // 2)
    if room < 0 or not 0 <= context <= room:
        raise ConfigurationError(
            f"context {context} and horizon {horizons[-1]} do not fit into {episode.usable_steps} actions"
        )
    dreamed = open_loop(
        model,
        episode.observations,
        episode.actions,
        context=context,
        horizon=horizons[-1],
        noise=torch.Generator(model.device).manual_seed(seed),
        temperature=temperature,
        samples=samples,
    )
    title = f"{model.real.id}: dreams of one moment, the real actions, temperature {temperature:g}"
    last = context + horizons[-1]
    with torch.inference_mode():
        if not model.vision.is_image:
            shown = model.vision.decode(dreamed.flatten(0, 1)).unflatten(0, dreamed.shape[:2])
            return line_grid(episode.observations[context : last + 1], shown, title)
        moments = [context, *(context + h for h in horizons)]
        real = episode.observations[moments]
        noise = torch.Generator(model.device).manual_seed(seed)
        held = seen_latents(model, episode.observations[: last + 1], episode.actions[:last], noise=noise)
        seen = model.vision.decode_uint8(held[moments]).cpu().numpy()
        rows = [("real", real), ("V's view", seen)]
        for number, sample in enumerate(dreamed, start=1):
            pictures = model.vision.decode_uint8(sample[[h - 1 for h in horizons]]).cpu().numpy()
            rows.append((f"dream {number}", np.concatenate([seen[:1], pictures])))
    frames = f"{model.real.action_repeat} frames" if model.real.action_repeat > 1 else "1 frame"
    return picture_grid(rows, ["start", *(f"+{h}" for h in horizons)], f"{title}\n(a step is {frames})")


def read_evolution(folder: str | Path) -> list[dict[str, Any]]:
    """The history, one record a generation, of the evolution in `folder` (evolution.json).

    Raises:
        BundleError: It is missing or not a history.
    """
    file = Path(folder) / "evolution.json"
    try:
        history = read_any(file)["history"]
        missing = {"index", "dream_mean", "dream_best"} - history[0].keys()
        if missing:
            raise KeyError(*missing)
        return list(history)
    except BundleError as error:
        raise BundleError(f"{error}; expected a folder that evolve wrote") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BundleError(f"{file}: not the history of an evolution: {error!r}") from error


def evolution_figure(history: Sequence[dict[str, Any]], title: str = "") -> Figure:
    """Dreamed returns a generation, with the real validation scores where there are some."""
    figure = new_figure(7.0, 3.6)
    axes = figure.subplots()
    index = [record["index"] for record in history]
    axes.plot(index, [r["dream_best"] for r in history], color=DREAM_COLOUR, alpha=0.4, label="dream: best candidate")
    axes.plot(index, [r["dream_mean"] for r in history], color=DREAM_COLOUR, label="dream: mean of the candidates")
    for name, marker, label in (
        ("validation_mean", "o", "real validation: mean solution"),
        ("validation_best", "^", "real validation: best candidate"),
    ):
        scored = [(r["index"], r[name]["mean"]) for r in history if r.get(name)]
        if scored:
            axes.plot(
                *zip(*scored, strict=True), marker=marker, color=REAL_COLOUR, linestyle="", markersize=5, label=label
            )
    axes.set_xlabel("generation")
    axes.set_ylabel("return")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    return figure


def _actor(model: WorldModel, action_space: Any, rng: np.random.Generator, player: ResolvedAgent | None) -> Actor:
    if player is not None:
        return Noisy(AgentActor(model, player, "agent", rng), action_space, rng, probability=(0.1, 0.1))
    exploration = default_exploration(action_space)[0]
    return POLICIES[exploration.policy](action_space, rng, **exploration.kwargs)
