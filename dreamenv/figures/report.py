"""The demonstration's report: one HTML file that needs no other."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dreamenv.figures.page import NUMBER, RANGE, TEXT, TableRow, data_address, svg, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAINED_IN = {"dream": "in the dream", "real": "in the real environment", "none": "not trained"}
_SCORE_COLUMNS = (
    ("agent", TEXT),
    ("trained", TEXT),
    ("mean", NUMBER),
    ("std", NUMBER),
    ("95% interval of the mean", RANGE),
    ("episodes", NUMBER),
    ("real frames", NUMBER),
)


def write_report(path: Path, result: dict[str, Any], curve: Figure, video: Path) -> Path:
    """Write the report of a demonstration, atomically.

    Args:
        path: The .html file.
        result: What `run_demo` returns.
        curve: The evolution's figure; it is put into the page as SVG.
        video: An .mp4, put into the page too.
    """
    scores, seconds = result["scores"], result["seconds"]
    return write_page(
        path,
        "demo",
        title=f"{result['dream']}: dreamed, then played",
        summary=summarise(result),
        video=data_address(video, "video/mp4"),
        video_note=_video_note(result["video"]),
        video_file=result["video"]["file"],
        real_id=result["real_id"],
        score_columns=_SCORE_COLUMNS,
        scores=[
            _score_row("this demonstration's agent", "dream", scores["agent"]),
            _score_row("random policy", "none", scores["random"]),
            *(_published_row(item) for item in result["published"]),
        ],
        frames_note=_frames_note(scores["agent"]["real_frames"]),
        curve=svg(curve),
        stage_columns=(("stage", TEXT), ("seconds", NUMBER)),
        stages=[
            TableRow((name, f"{taken:.1f}")) for name, taken in [*seconds.items(), ("together", sum(seconds.values()))]
        ],
        setting_columns=(("setting", TEXT), ("value", TEXT)),
        settings=[TableRow((key.replace("_", " "), _setting(value))) for key, value in result["options"].items()],
        next_command=shlex.join(["dreamenv", "serve", str(result["dream"]), "--agent", str(path.parent / "agent")]),
        verdict=_verdict(result["scores"]["agent"], result["scores"]["random"]),
    )


def _verdict(agent: dict[str, Any], random: dict[str, Any]) -> str:
    """Whether the agent is better than chance, by the intervals of the two means."""
    scores = f"{agent['mean']:.0f} on the real environment, a random policy {random['mean']:.0f}"
    if agent["ci95"][0] > random["ci95"][1]:
        return f"What was learned in the dream works in reality: the agent scores {scores}."
    if agent["ci95"][1] < random["ci95"][0]:
        return f"What was learned in the dream harms in reality: the agent scores {scores}."
    return f"It is open whether what was learned in the dream helps in reality: the agent scores {scores}."


def _setting(value: Any) -> str:
    return "by default" if value is None else str(value)


def summarise(result: dict[str, Any]) -> str:
    """What happened, in two sentences."""
    agent, random, evolved = result["scores"]["agent"], result["scores"]["random"], result["evolution"]
    (low, high), (low_random, high_random) = agent["ci95"], random["ci95"]
    return (
        f"A linear controller was evolved from nothing for {evolved['generations']} generations "
        f"({result['seconds']['evolve']:.0f} s) inside {result['dream']}, where its generation's mean return ended at "
        f"{evolved['dream_mean']:.0f}. On the real {result['real_id']} it scores {agent['mean']:.0f} ± "
        f"{agent['std']:.0f} over {agent['episodes']} episodes (95% interval of the mean {low:.0f} to {high:.0f}); "
        f"a random policy scores {random['mean']:.0f} ± {random['std']:.0f} ({low_random:.0f} to {high_random:.0f})."
    )


def _frames_note(real_frames: int | None) -> str:
    if real_frames is None:
        return "How many real frames the world model was fitted to is not recorded."
    return (
        f"{real_frames:,} real frames were consumed in all to train the world model and to choose the agent. "
        "The scored episodes are not among them: they served for the score alone."
    )


def _score_row(name: str, trained_in: str, score: dict[str, Any]) -> TableRow:
    low, high = score["ci95"]
    cells = (
        name,
        _TRAINED_IN[trained_in],
        f"{score['mean']:.1f}",
        f"{score['std']:.1f}",
        f"{low:.1f} to {high:.1f}",
        str(score["episodes"]),
        "not stated" if score["real_frames"] is None else f"{score['real_frames']:,}",
    )
    return TableRow(cells, "own")


def _published_row(item: dict[str, Any]) -> TableRow:
    name, trained = f"{item['work']}: {item['note']}", _TRAINED_IN[item["trained_in"]]
    return TableRow((name, trained, f"{item['mean']:.0f}", f"{item['spread']:.0f}", "", "", ""), "published")


def _video_note(shown: dict[str, Any]) -> str:
    return (
        f"The same agent in the dream (left, return {shown['dream_return']:.0f}) and in reality (right, return "
        f"{shown['real_return']:.0f}), from the same first frame. The real episode is the scored one nearest to the "
        f"median (seed {shown['seed']}). The side that ends first holds its last frame."
    )
