"""Links of all documents: those within the project lead somewhere, those to other hosts are well formed.

Whether another host answers is not tried: tests ask nobody but themselves.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "docs").rglob("*.ipynb")),
    *sorted((ROOT / "dreamenv" / "pretrained").rglob("README.md")),
]
_LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:src|href)="([^"{]+)"|^```\{image\} (\S+)$""", re.MULTILINE)


def prose(page: Path) -> str:
    """The text of a page without its code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    directives = re.compile(r"^```(?!\{image\}).*?^```$", re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`(?!\])", "", directives.sub("", text))


def links(text: str) -> list[str]:
    return [next(filter(None, match)) for match in _LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_are_found() -> None:
    text = '[a](b.md#c)\n```{image} d.gif\n```\n<img src="e.png"> [`f`](https://g.org) ```\n'
    assert links(text) == ["b.md#c", "d.gif", "e.png", "https://g.org"]
    assert links(prose(ROOT / "README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(prose(page)):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            if parts.scheme != "https" or not re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc) or " " in link:
                broken.append(f"{link}: not of the form https://host/path")
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            broken.append(f"{link}: no such file")
        elif parts.fragment and target.suffix == ".md" and parts.fragment not in anchors(target):
            broken.append(f"{link}: no such heading")
    assert broken == []
