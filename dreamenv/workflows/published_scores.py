"""Published scores, to stand beside ours."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedScore:
    """One figure of one paper.

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

# By the id of the real environment here, which is a later version of the published one.
PUBLISHED: dict[str, tuple[PublishedScore, ...]] = {
    "VizdoomTakeCover-v1": (
        PublishedScore(f"{_WORLD_MODELS}, temperature 1.15", "dream", 1092, 556, _DOOM),
        PublishedScore("best of the leaderboard at that time", "real", 820, 58, _DOOM),
        PublishedScore(f"{_WORLD_MODELS}, random policy", "none", 210, 108, _DOOM),
    ),
    "CarRacing-v3": (
        PublishedScore(f"{_WORLD_MODELS}, z and h", "real", 906, 21, _CAR),
        PublishedScore(f"{_WORLD_MODELS}, z only", "real", 632, 251, _CAR),
        PublishedScore(
            "Dropout's Dream Land (Wellmer and Kwok 2021), last controller",
            "dream",
            625,
            289,
            "a variant with fixed 289-tile tracks, expert data",
        ),
    ),
}
