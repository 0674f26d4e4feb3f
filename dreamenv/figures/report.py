"""The demonstration's report: one HTML file that needs no other."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from dreamenv.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRAINED_IN = {"dream": "in the dream", "real": "in the real environment", "none": "not trained"}

_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c22; }
h1 { font-size: 1.6rem; line-height: 1.2; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: #555; padding-bottom: .4rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.own { font-weight: 600; } tr.published { color: #555; }
video, svg { max-width: 100%; height: auto; } video { width: 100%; background: #18181c; }
p.note { color: #555; font-size: .9rem; }
</style>
</head>
<body>
<h1>$title</h1>
<p>$summary</p>
$video
<h2>Scores on $real_id</h2>
<table>
<caption>Undiscounted returns of whole episodes. Published figures: earlier versions of the environment.</caption>
<thead><tr><th>agent</th><th>trained</th><th class="number">mean</th><th class="number">std</th>
<th>95% interval of the mean</th><th class="number">episodes</th><th class="number">real frames</th></tr></thead>
<tbody>
$rows
</tbody>
</table>
<p class="note">$frames</p>
<h2>Evolution in the dream</h2>
$curve
<h2>Time</h2>
<table><thead><tr><th>stage</th><th class="number">seconds</th></tr></thead><tbody>
$stages
</tbody></table>
<p class="note">$settings</p>
</body>
</html>
"""
)


def write_report(path: Path, result: dict[str, Any], curve: Figure, video: Path) -> Path:
    """Write the report of a demonstration, atomically.

    Args:
        path: The .html file.
        result: What `run_demo` returns.
        curve: The evolution's figure; it is put into the page as SVG.
        video: An .mp4, put into the page too.
    """
    scores = result["scores"]
    seconds = result["seconds"]
    content = _PAGE.substitute(
        title=escape(f"{result['dream']}: dreamt, then played"),
        summary=escape(summarise(result)),
        video=_video(result, video),
        real_id=escape(result["real_id"]),
        rows="\n".join(
            [
                _row("own", "this demonstration's agent", "dream", scores["agent"]),
                _row("own", "random policy", "none", scores["random"]),
                *(_published_row(item) for item in result["published"]),
            ]
        ),
        frames=escape(_frames(scores["agent"]["real_frames"])),
        curve=svg(curve),
        stages="\n".join(
            f'<tr><td>{escape(name)}</td><td class="number">{taken:.1f}</td></tr>'
            for name, taken in [*seconds.items(), ("together", sum(seconds.values()))]
        ),
        settings=escape("Settings: " + ", ".join(f"{key} {value}" for key, value in result["options"].items()) + "."),
    )
    write_text(path, content)
    return path


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


def _frames(real_frames: int | None) -> str:
    if real_frames is None:
        return "Real frames: the world model's provenance does not say how many it was trained on."
    return (
        f"{real_frames:,} real frames were consumed in all to train the world model and to choose the agent. "
        "The scored episodes are not among them; their seeds trained and chose nothing."
    )


def _row(style: str, name: str, trained_in: str, score: dict[str, Any]) -> str:
    low, high = score["ci95"]
    frames = "not stated" if score["real_frames"] is None else f"{score['real_frames']:,}"
    return _cells(
        style,
        (name, _TRAINED_IN[trained_in]),
        (f"{score['mean']:.1f}", f"{score['std']:.1f}"),
        f"{low:.1f} to {high:.1f}",
        (str(score["episodes"]), frames),
    )


def _published_row(item: dict[str, Any]) -> str:
    name = f"{item['work']}: {item['note']}"
    numbers = (f"{item['mean']:.0f}", f"{item['spread']:.0f}")
    return _cells("published", (name, _TRAINED_IN[item["trained_in"]]), numbers, "", ("", ""))


def _cells(style: str, words: tuple[str, str], numbers: tuple[str, str], interval: str, last: tuple[str, str]) -> str:
    texts = "".join(f"<td>{escape(word)}</td>" for word in words)
    first, second = ("".join(f'<td class="number">{escape(n)}</td>' for n in pair) for pair in (numbers, last))
    return f'<tr class="{style}">{texts}{first}<td>{escape(interval)}</td>{second}</tr>'


def _video(result: dict[str, Any], file: Path) -> str:
    shown = result["video"]
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    note = (
        f"The same agent in the dream (left, return {shown['dream_return']:.0f}) and in reality (right, return "
        f"{shown['real_return']:.0f}), from the same first frame. The real episode is the scored one nearest to the "
        f"median (seed {shown['seed']}). The side that ends first holds its last frame."
    )
    return (
        f'<video controls autoplay loop muted playsinline src="data:video/mp4;base64,{data}"></video>\n'
        f'<p class="note">{escape(note)} As a file: <a href="{escape(shown["file"])}">{escape(shown["file"])}</a>.</p>'
    )


def svg(figure: Figure) -> str:
    """A figure as an SVG element, to be put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    # Without the XML declaration, which has no place inside a page
    return text[text.index("<svg") :]
