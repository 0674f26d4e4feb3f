"""Figures of collected episodes: contact sheets, returns, lengths and ends, and how far the actions reach."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.bundle_config import read_config, space_from_json
from dreamenv.data.collect import collected_real
from dreamenv.data.episode_file import read_episode
from dreamenv.data.episodes import EpisodeStore
from dreamenv.data.preprocess import make_real_env
from dreamenv.data.summary import ENDS, EpisodeRecord, all_actions, box_bounds, cell_counts, group_rows, run_lengths
from dreamenv.errors import ConfigurationError, EpisodeFileError
from dreamenv.figures.canvas import new_figure
from dreamenv.types import Episode

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN_ACTIONS = 5
_SHOWN_DIMENSIONS = 4
_ROWS_OF_A_SHEET = 8
_MOST_GROUPS = 12
_GAP = 3
_END_COLOURS = {"terminated": "C3", "truncated": "C0", "both": "C4"}


def find_store(run: str | Path) -> EpisodeStore:
    """The episodes of a run directory, or of a folder of episodes itself.

    Raises:
        EpisodeFileError: There is no such folder.
    """
    run = Path(run)
    store = EpisodeStore(run / "episodes" if (run / "episodes").is_dir() else run)
    if not store.path.is_dir():
        raise EpisodeFileError(f"{run}: no such folder; expected a run directory or a folder of episodes")
    return store


def recorded_action_space(run: str | Path) -> gym.Space[Any] | None:
    """The action space of a run's real environment; None where nothing beside the episodes names it (an import).

    It is read from the run's bundle; before there is one, the environment that `collect` recorded is made and asked.

    Raises:
        BundleError: The bundle's config.json is damaged.
        EpisodeFileError: So is collection.json.
        MissingExtraError: The real environment's package is not installed.
    """
    run = Path(run)
    for folder in (run, run.parent):
        if (folder / "bundle" / "config.json").exists():
            return space_from_json(read_config(folder / "bundle")["action_space"])
    spec = collected_real(find_store(run).path)
    if spec is None:
        return None
    env = make_real_env(spec)
    env.close()
    return env.action_space


def spread_over_returns(records: Sequence[EpisodeRecord], count: int) -> list[EpisodeRecord]:
    """At most `count` episodes, evenly spaced in the order of their returns, from the lowest to the highest.

    Raises:
        ConfigurationError: A count below 1.
    """
    if count < 1:
        raise ConfigurationError(f"a contact sheet shows at least 1 episode, got {count}")
    ordered = sorted(records, key=lambda record: record.undiscounted_return)
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


def contact_sheets(records: Sequence[EpisodeRecord], *, columns: int = 10) -> list[Figure]:
    """The episodes of `records` a row each, eight rows a sheet: pictures from their first to their last observation.

    Vector observations are drawn as lines of their first four dimensions.

    Raises:
        ConfigurationError: Fewer than two columns.
        EpisodeFileError: An episode is cut short.
    """
    if columns < 2:
        raise ConfigurationError(f"a contact sheet needs at least 2 columns, got {columns}")
    return [
        _contact_sheet(records[begin : begin + _ROWS_OF_A_SHEET], columns)
        for begin in range(0, len(records), _ROWS_OF_A_SHEET)
    ]


def _contact_sheet(records: Sequence[EpisodeRecord], columns: int) -> Figure:
    figure = new_figure(0.85 * columns + 1.6, 0.95 * len(records) + 0.3)
    grid = figure.subplots(len(records), 1, squeeze=False)[:, 0]
    for axes, record in zip(grid, records, strict=True):
        episode = read_episode(record.file)
        if episode.observations.ndim == 4:
            _draw_pictures(axes, episode, columns)
        else:
            _draw_lines(axes, episode)
        text = f"{record.group}\nreturn {record.undiscounted_return:.1f}\n{record.end}"
        axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=7)
    return figure


def _draw_pictures(axes: Axes, episode: Episode, columns: int) -> None:
    last = len(episode) - (0 if episode.final_observation_valid else 1)
    steps = np.linspace(0, max(last, 0), columns).round().astype(int)
    # A white margin on the right of each, so that neighbours do not run into one another
    frames = np.pad(episode.observations[steps], ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
    axes.imshow(np.concatenate(list(frames), axis=1), interpolation="nearest")
    width = frames.shape[2]
    axes.set_xticks([width * (column + 0.5) for column in range(columns)], [str(step) for step in steps], fontsize=6)
    axes.set_yticks([])
    axes.tick_params(length=0, pad=1)
    for side in axes.spines.values():
        side.set_visible(False)


def _draw_lines(axes: Axes, episode: Episode) -> None:
    for dimension in range(min(episode.observations.shape[1], _SHOWN_DIMENSIONS)):
        axes.plot(episode.observations[:, dimension], linewidth=0.8)
    axes.tick_params(labelsize=6)
    axes.grid(alpha=0.3)


def returns_figure(records: Sequence[EpisodeRecord]) -> Figure:
    """Histogram of the returns, stacked by policy; a dashed line at the mean."""
    figure = new_figure(7.0, 3.4)
    axes = figure.subplots()
    groups = _by_group(records)
    axes.hist(
        [[record.undiscounted_return for record in members] for members in groups.values()],
        bins=40,
        stacked=True,
        label=[f"{name} ({len(members)})" for name, members in groups.items()],
    )
    mean = float(np.mean([record.undiscounted_return for record in records]))
    axes.axvline(mean, color="black", linestyle="--", linewidth=1, label=f"mean {mean:.1f}")
    axes.set_xlabel("return")
    axes.set_ylabel("episodes")
    _grid_behind(axes)
    axes.legend(fontsize=7)
    return figure


def lengths_figure(records: Sequence[EpisodeRecord]) -> Figure:
    """Histogram of the lengths by how episodes ended, and the ends of each policy as bars."""
    groups = _by_group(records)
    figure = new_figure(9.0, max(3.4, 0.3 * len(groups) + 1.2))
    left, right = figure.subplots(1, 2)
    ends = [end for end in ENDS if any(record.end == end for record in records)]
    lengths = {end: [len(record.rewards) for record in records if record.end == end] for end in ends}
    colours = [_END_COLOURS[end] for end in ends]
    left.hist(list(lengths.values()), bins=40, stacked=True, color=colours, label=ends)
    left.set_xlabel("length in actions")
    left.set_ylabel("episodes")
    left.legend(fontsize=7)
    begin = np.zeros(len(groups))
    for end, colour in zip(ends, colours, strict=True):
        share = np.array([np.mean([record.end == end for record in members]) for members in groups.values()])
        right.barh(range(len(groups)), share, left=begin, color=colour)
        begin += share
    right.set_yticks(range(len(groups)), list(groups), fontsize=7)
    right.invert_yaxis()
    right.set_xlim(0, 1)
    right.set_xlabel("share of the episodes")
    _grid_behind(left, right)
    return figure


def actions_figure(records: Sequence[EpisodeRecord], action_space: gym.Space[Any] | None) -> Figure:
    """How far the actions reach: joint histograms of pairs of dimensions (Box), or counts and run lengths (Discrete).

    Cells that hold no action are white: what an agent does there, M has never seen. At most five dimensions are drawn.

    Raises:
        ConfigurationError: A space that the actions do not belong to.
    """
    if all_actions(records).ndim == 1:
        return _discrete_figure(records, action_space)
    return _box_figure(records, action_space)


def _discrete_figure(records: Sequence[EpisodeRecord], action_space: gym.Space[Any] | None) -> Figure:
    runs = run_lengths(records)
    known = list(runs)
    if isinstance(action_space, spaces.Discrete):
        known = list(range(int(action_space.start), int(action_space.start + action_space.n)))
    figure = new_figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    counts = [int(runs[action].sum()) if action in runs else 0 for action in known]
    left.bar([str(action) for action in known], counts, color=[f"C{index % 10}" for index in range(len(known))])
    left.set_xlabel("action")
    left.set_ylabel("times taken")
    for index, action in enumerate(known):
        if action in runs:
            lengths = np.sort(runs[action])
            at_least = 1 - np.arange(len(lengths)) / len(lengths)
            right.step(lengths, at_least, where="post", color=f"C{index % 10}", label=f"action {action}")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("steps for which an action is held")
    right.set_ylabel("share of the runs at least as long")
    right.legend(fontsize=7)
    _grid_behind(left, right)
    return figure


def _box_figure(records: Sequence[EpisodeRecord], action_space: gym.Space[Any] | None) -> Figure:
    from matplotlib.colors import LogNorm

    actions, bounds = all_actions(records), box_bounds(records, action_space)
    shown = min(actions.shape[1], _SHOWN_ACTIONS)
    side = 1.9 * shown + 0.8
    figure = new_figure(max(side, 4.0), max(side, 3.0))
    grid = figure.subplots(shown, shown, squeeze=False)
    for row in range(shown):
        counts = cell_counts(actions, bounds, [row])
        grid[row, row].stairs(counts, _edges(bounds, row, len(counts)), fill=True)
        grid[row, row].set_title(f"action[{row}]", fontsize=8)
    for column, row in combinations(range(shown), 2):
        counts = cell_counts(actions, bounds, [column, row]).T
        edges = _edges(bounds, column, counts.shape[1]), _edges(bounds, row, counts.shape[0])
        norm = LogNorm(vmin=1, vmax=max(int(counts.max()), 2))
        grid[row, column].pcolormesh(*edges, np.ma.masked_equal(counts, 0), norm=norm, rasterized=True)
        grid[row, column].set_title(f"{(counts > 0).mean():.0%} of the cells", fontsize=7)
        grid[row, column].set_xlabel(f"action[{column}]", fontsize=7)
        grid[row, column].set_ylabel(f"action[{row}]", fontsize=7)
        grid[column, row].set_visible(False)
    for axes in grid.flat:
        axes.tick_params(labelsize=6)
    whole = "the action space" if action_space is not None else "the data"
    rest = f", the first {shown} of {actions.shape[1]} dimensions" if shown < actions.shape[1] else ""
    figure.suptitle(f"{len(actions):,} actions over the range of {whole}{rest}", fontsize=9)
    return figure


def _grid_behind(*several: Axes) -> None:
    for axes in several:
        axes.grid(alpha=0.3)
        axes.set_axisbelow(True)


def _edges(bounds: NDArray[np.float64], dimension: int, cells: int) -> NDArray[np.float64]:
    low, high = bounds[:, dimension]
    return np.linspace(low, high if high > low else low + 1.0, cells + 1)


def _by_group(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Episodes by policy and part in the order of `group_rows`; by policy alone where there would be too many."""
    rows = group_rows(records)
    by_part = len(rows) <= _MOST_GROUPS
    groups: dict[str, list[EpisodeRecord]] = {}
    for row in rows:
        groups[f"{row.part}: {row.policy}" if row.part and by_part else row.policy] = []
    for record in records:
        groups[record.group if by_part else record.policy].append(record)
    return groups
