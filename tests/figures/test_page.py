"""Pages that need no other file, and that show every text as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest

from dreamenv.figures.canvas import new_figure
from dreamenv.figures.page import NUMBER, TEXT, TableRow, data_address, svg, write_page
from dreamenv.figures.report import write_report
from tests import accessibility
from tests.serve import browser

MARK_UP = "<b>5 & 6</b>"
VOID = {"meta", "br", "hr", "img", "path", "use", "rect", "line", "stop"}


class Balanced(HTMLParser):
    """Collects the cells of tables, and fails on a tag that is closed out of its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[tuple[str, str]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append((str(dict(attrs).get("class")), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            kind, text = self.cells[-1]
            self.cells[-1] = kind, text + data


def gap_page(path: Path) -> Path:
    figure = new_figure(2, 2)
    figure.suptitle(MARK_UP)
    values: dict[str, Any] = {
        "title": MARK_UP,
        "summary": "all is well",
        **dict.fromkeys(("returns", "rewards", "ends", "open_loop_errors"), svg(figure)),
        "reward_r2": MARK_UP,
        "ends_note": MARK_UP,
        "verdict": "",
        "errors": [
            (
                "An error",
                [("name", TEXT), ("dream", NUMBER), ("no change", NUMBER)],
                [TableRow((MARK_UP, "1", "2")), TableRow(("there", "3", "4"), "own")],
            )
        ],
        "open_loop_note": "",
    }
    return write_page(path, "gap", **values)


def test_texts_are_escaped_and_figures_are_not(tmp_path: Path) -> None:
    page = gap_page(tmp_path / "new" / "gap.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert MARK_UP not in page
    assert page.count("<svg") == 4
    assert re.sub("<svg.*?</svg>", "", page, flags=re.DOTALL).count("&lt;b&gt;5 &amp; 6&lt;/b&gt;") == 5
    assert "<?xml" not in page
    assert "<style>\n:root" in page
    cells = Balanced(page).cells
    assert [text for _, text in cells[:3]] == ["name", "dream", "no change"]
    assert [text for _, text in cells[3:]] == [MARK_UP, "1", "2", "there", "3", "4"]
    assert [kind for kind, _ in cells[-3:]] == [TEXT, NUMBER, NUMBER]
    assert '<tr role="row" class="own"><td role="cell" class="text" data-column="name">there</td>' in page


def test_a_value_that_is_missing_is_an_error_and_no_page(tmp_path: Path) -> None:
    with pytest.raises(jinja2.UndefinedError, match="'returns' is undefined"):
        write_page(tmp_path / "gap.html", "gap", title="A gap", summary="all is well", verdict="")
    assert not (tmp_path / "gap.html").exists()


def report_page(folder: Path) -> Path:
    video = folder / "demo.mp4"
    video.write_bytes(b"\x00\x01film")
    score = {"mean": 12.25, "std": 1.5, "ci95": (11.0, 13.5), "episodes": 7, "real_frames": 1234}
    published = {"work": "Some & Other", "note": "n", "trained_in": "real", "mean": 900.0, "spread": 20.0}
    result = {
        "dream": "Dream<x>-v0",
        "real_id": "Own-v0",
        "scores": {"agent": score, "random": score | {"real_frames": None}},
        "seconds": {"evolve": 1.5, "video": 0.75},
        "evolution": {"generations": 3, "dream_mean": 20.0},
        "published": [published],
        "options": {"minutes": 4, "horizon": None},
        "video": {"dream_return": 1.0, "real_return": 2.0, "seed": 9, "file": "demo.mp4"},
    }
    return write_report(folder / "report.html", result, new_figure(2, 2), video)


def test_the_report_of_a_demonstration_holds_its_video_and_scores(tmp_path: Path) -> None:
    page, video = report_page(tmp_path).read_text(encoding="utf-8"), tmp_path / "demo.mp4"
    cells = [text for _, text in Balanced(page).cells]
    assert cells[7:14] == ["this demonstration's agent", "in the dream", "12.2", "1.5", "11.0 to 13.5", "7", "1,234"]
    assert cells[14:21] == ["random policy", "not trained", "12.2", "1.5", "11.0 to 13.5", "7", "not stated"]
    assert cells[21:28] == ["Some & Other: n", "in the real environment", "900", "20", "", "", ""]
    assert cells[-14:-4] == ["stage", "seconds", "evolve", "1.5", "video", "0.8", "together", "2.2", "setting", "value"]
    assert cells[-4:] == ["minutes", "4", "horizon", "by default"]
    assert "Dream&lt;x&gt;-v0: dreamed, then played</title>" in page
    assert "It is open whether what was learned in the dream helps in reality" in page
    assert f"dreamenv serve &#39;Dream&lt;x&gt;-v0&#39; --agent {tmp_path / 'agent'}" in page
    assert data_address(video, "video/mp4") == "data:video/mp4;base64,AAFmaWxt"
    assert f'src="{data_address(video, "video/mp4")}"' in page
    # Nothing is loaded from elsewhere
    assert set(re.findall(r'(?:src|href)="(?!#)([^"]{,20})', page)) == {"data:video/mp4;base6", "demo.mp4"}


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.xdist_group("browser")
@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
@pytest.mark.parametrize("write", [gap_page, report_page], ids=["gap", "report"])
def test_axe_core_finds_nothing_wrong(write: Callable[[Path], Path], driver: Any, tmp_path: Path) -> None:
    page = write(tmp_path / "gap.html" if write is gap_page else tmp_path)
    for scheme in ("light", "dark"):
        assert accessibility.violations_of_file(driver, page, scheme=scheme) == []
