"""Labelled figures: what V reconstructs, what M dreams beside what really followed, and how an evolution went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dreamenv.agents.exploration import agent_with_noise
from dreamenv.data.collect import record_episode
from dreamenv.data.explore import POLICIES, Actor, default_exploration
from dreamenv.data.preprocess import make_real_env
from dreamenv.errors import BundleError, ConfigurationError, missing_extra
from dreamenv.training.panels import open_loop, reconstruct
from dreamenv.types import Episode, RealEnvSpec, episode_seeds
from dreamenv.world_model import WorldModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HORIZONS = (1, 5, 15, 50)
_SHOWN_DIMENSIONS = 4
_REAL, _DREAM = "#1f77b4", "#d62728"


def record_episodes(
    model: WorldModel,
    *,
    least: int,
    count: int = 2,
    seed: int = 0,
    source: str | None = None,
    agent: str | None = None,
    tries: int = 20,
) -> list[Episode]:
    """Fresh real episodes with at least `least` usable actions, on validation seeds.

    Args:
        model: The world model whose real environment is played.
        least: Actions after each of which the observation is a real one.
        count: How many.
        seed: Which.
        source: Id or folder of the model, for `agent`.
        agent: Id, folder or file of an agent that drives with a little noise; None explores at random.
        tries: Episodes played at most, agent and random exploration in turn after half of them.

    Raises:
        ConfigurationError: None of the episodes played is long enough.
    """
    env = make_real_env(model.real)
    found: list[Episode] = []
    longest = 0
    try:
        for index, episode_seed in enumerate(episode_seeds("validation", seed, tries)):
            rng = np.random.default_rng([seed, index])
            by_agent = agent is not None and source is not None and (index < tries // 2 or index % 2 == 0)
            episode = record_episode(
                env, _actor(env.action_space, rng, source, agent if by_agent else None), seed=episode_seed
            )
            longest = max(longest, usable_steps(episode))
            if usable_steps(episode) >= least:
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


def usable_steps(episode: Episode) -> int:
    """Actions of an episode after which the observation is a real one."""
    return len(episode) - (0 if episode.final_observation_valid else 1)


def first_moment(real: RealEnvSpec) -> int:
    """Actions of a real episode before its pictures are worth showing: its start margin, and ten for M to settle."""
    return -(-real.start_margin // real.action_repeat) + 10


def reconstruction_figure(model: WorldModel, episodes: Sequence[Episode], *, columns: int = 8) -> Figure:
    """Real frames spread over `episodes` in the first row, V's reconstructions in the second.

    Raises:
        ConfigurationError: V is the identity: vector observations have nothing to reconstruct.
    """
    if not model.vision.is_image:
        raise ConfigurationError(f"{model.real.id} has vector observations; V is the identity and reconstructs nothing")
    begin = first_moment(model.real)
    pool = np.concatenate([e.observations[min(begin, len(e) - 1) : usable_steps(e) + 1] for e in episodes])
    frames = pool[np.linspace(0, len(pool) - 1, columns).astype(int)]
    rows = [("real", frames), ("V's reconstruction", reconstruct(model.vision, frames))]
    return _picture_grid(rows, [""] * columns, f"{model.real.id}: what V sees")


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
    room = usable_steps(episode) - horizons[-1]
    if context is None:
        context = max(min(first_moment(model.real), room), room // 2)
    if room < 0 or not 0 <= context <= room:
        raise ConfigurationError(
            f"context {context} and horizon {horizons[-1]} do not fit into {usable_steps(episode)} actions"
        )
    dreamed = open_loop(
        model.vision,
        model.memory,
        episode.observations,
        episode.actions,
        context=context,
        horizon=horizons[-1],
        generator=torch.Generator(model.device).manual_seed(seed),
        temperature=temperature,
        samples=samples,
    )
    title = f"{model.real.id}: dreams of one moment, the real actions, temperature {temperature:g}"
    if not model.vision.is_image:
        return _line_grid(episode.observations[context : context + horizons[-1] + 1], dreamed, title)
    real = episode.observations[[context, *(context + h for h in horizons)]]
    seen = reconstruct(model.vision, real)
    rows = [("real", real), ("V's view", seen)]
    with torch.inference_mode():
        for number, sample in enumerate(dreamed, start=1):
            pictures = model.vision.decode_uint8(sample[[h - 1 for h in horizons]]).cpu().numpy()
            rows.append((f"dream {number}", np.concatenate([seen[:1], pictures])))
    frames = f"{model.real.action_repeat} frames" if model.real.action_repeat > 1 else "1 frame"
    return _picture_grid(rows, ["start", *(f"+{h}" for h in horizons)], f"{title}\n(a step is {frames})")


def check_horizons(horizons: Sequence[int]) -> tuple[int, ...]:
    """`horizons` in order.

    Raises:
        ConfigurationError: None, or one below 1.
    """
    if not horizons or min(horizons) < 1:
        raise ConfigurationError(f"horizons must be whole numbers of at least 1, got {list(horizons)}")
    return tuple(sorted(set(horizons)))


def read_evolution(folder: str | Path) -> list[dict[str, Any]]:
    """The history, one record a generation, of the evolution in `folder` (evolution.json).

    Raises:
        BundleError: It is missing or not a history.
    """
    file = Path(folder) / "evolution.json"
    try:
        history = json.loads(file.read_text(encoding="utf-8"))["history"]
        missing = {"index", "dream_mean", "dream_best"} - history[0].keys()
        if missing:
            raise KeyError(*missing)
        return list(history)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror}); expected a folder that evolve wrote") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BundleError(f"{file}: not the history of an evolution: {error!r}") from error


def evolution_figure(history: Sequence[dict[str, Any]], title: str = "") -> Figure:
    """Dreamed returns a generation, with the real validation scores where there are some."""
    figure = new_figure(7.0, 3.6)
    axes = figure.subplots()
    index = [record["index"] for record in history]
    axes.plot(index, [r["dream_best"] for r in history], color=_DREAM, alpha=0.4, label="dream: best candidate")
    axes.plot(index, [r["dream_mean"] for r in history], color=_DREAM, label="dream: mean of the candidates")
    for name, marker, label in (
        ("validation_mean", "o", "real validation: mean solution"),
        ("validation_best", "^", "real validation: best candidate"),
    ):
        scored = [(r["index"], r[name]["mean"]) for r in history if r.get(name)]
        if scored:
            axes.plot(*zip(*scored, strict=True), marker=marker, color=_REAL, linestyle="", markersize=5, label=label)
    axes.set_xlabel("generation")
    axes.set_ylabel("return")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="best")
    return figure


def save_figure(figure: Figure, file: str | Path) -> Path:
    """Write a figure as .png or .svg, by the file's suffix; its folder is made."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    return file


def save_figures(figures: Mapping[str, Figure], folder: str | Path) -> list[Path]:
    """Write each figure as `<folder>/<name>.png` and `.svg`; returns the files."""
    return [save_figure(f, Path(folder) / f"{name}{kind}") for name, f in figures.items() for kind in (".png", ".svg")]


def _actor(action_space: Any, rng: np.random.Generator, source: str | None, agent: str | None) -> Actor:
    if agent is not None and source is not None:
        return agent_with_noise(action_space, rng, world_model=source, agent=agent, probability=(0.1, 0.1))
    exploration = default_exploration(action_space)[0]
    return POLICIES[exploration.policy](action_space, rng, **exploration.kwargs)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "train") from error
    # A Figure of its own, not pyplot's: it draws by Agg and leaves no global state
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _picture_grid(rows: Sequence[tuple[str, NDArray[np.uint8]]], columns: Sequence[str], title: str) -> Figure:
    figure = new_figure(1.25 * len(columns) + 0.6, 1.3 * len(rows) + 0.6)
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, (label, pictures) in enumerate(rows):
        for column, picture in enumerate(pictures):
            axes = grid[row, column]
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(columns[column], fontsize=9)
            if column == 0:
                axes.set_ylabel(label, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _line_grid(real: NDArray[Any], dreamed: torch.Tensor, title: str) -> Figure:
    dimensions = min(real.shape[1], _SHOWN_DIMENSIONS)
    figure = new_figure(7.0, 1.5 * dimensions + 0.6)
    grid = figure.subplots(dimensions, 1, squeeze=False, sharex=True)[:, 0]
    steps = np.arange(len(real))
    dreams = dreamed.cpu().numpy()
    for dimension, axes in enumerate(grid):
        axes.plot(steps, real[:, dimension], color=_REAL, label="real")
        for number, sample in enumerate(dreams):
            line = np.concatenate([real[:1, dimension], sample[:, dimension]])
            axes.plot(steps, line, color=_DREAM, alpha=0.6, label="dream" if number == 0 else None)
        axes.set_ylabel(f"observation[{dimension}]", fontsize=8)
        axes.grid(alpha=0.3)
    grid[0].legend(fontsize=8)
    grid[-1].set_xlabel("steps")
    figure.suptitle(title, fontsize=10)
    return figure
