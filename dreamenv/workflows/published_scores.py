"""Scores that others have published, shown next to ours; their values are in the list of published figures."""

from __future__ import annotations

from dataclasses import dataclass

from dreamenv.workflows.published import find_figure, read_figures


@dataclass(frozen=True)
class PublishedScore:
    """One score of one paper.

    Attributes:
        work: Authors, year and what was scored.
        trained_in: "dream", "real" or "none" (a baseline).
        mean, spread: Return as published, `spread` its standard deviation.
        note: Version of the environment and number of episodes, as far as it is stated.
    """

    work: str
    trained_in: str
    mean: float
    spread: float
    note: str


_DOOM = "DoomTakeCover-v0, 100 episodes"
_CAR = "CarRacing-v0, 100 tracks"
_WORLD_MODELS = "Ha and Schmidhuber 2018 (World Models)"
_DREAM_LAND = "Dropout's Dream Land (Wellmer and Kwok 2021), last controller"
# Figure, work, where it was trained and note, by the id of the real environment here, a later version of theirs
_QUOTED = {
    "VizdoomTakeCover-v1": (
        ("ha-schmidhuber-2018.doom", f"{_WORLD_MODELS}, temperature 1.15", "dream", _DOOM),
        ("ha-schmidhuber-2018.doom-leader", "best of the leaderboard at that time", "real", _DOOM),
        ("ha-schmidhuber-2018.doom-random", f"{_WORLD_MODELS}, random policy", "none", _DOOM),
    ),
    "CarRacing-v3": (
        ("ha-schmidhuber-2018.car", f"{_WORLD_MODELS}, z and h", "real", _CAR),
        ("ha-schmidhuber-2018.car-z", f"{_WORLD_MODELS}, z only", "real", _CAR),
        ("dream-land-2021", _DREAM_LAND, "dream", "a variant with fixed 289-tile tracks, expert data"),
    ),
}


def published_scores(real_id: str) -> list[PublishedScore]:
    """The scores that others have published for a real environment; none for one that they did not play."""
    known = read_figures()
    found = []
    for name, work, trained_in, note in _QUOTED.get(real_id, ()):
        entry, part = find_figure(name, known)
        numbers = entry.published()[part].numbers()
        found.append(PublishedScore(work, trained_in, numbers["mean"], numbers["std"], note))
    return found
