"""The documentation site builds without a warning, has no dead links, and asks no other host for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.accessibility import violations_of_file
from tests.conftest import RunPython
from tests.docs.site import DOCS, extension
from tests.serve.browser import missing

_LOADED = re.compile(r"<(?:script|img|iframe|source|video)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//")
# What is searched for, and the page that has to come first
SEARCHES = {"install": "install.html", "tau": "temperature.html", "VAE": "glossary.html"}

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.xdist_group("site")]


@pytest.fixture(scope="module")
def site(run_python: RunPython, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Its notebooks are shown as they are stored; test_notebooks.py runs them."""
    for module in ("sphinx", "furo", "myst_nb", "sphinx_copybutton", "sphinxext.opengraph", "stable_baselines3"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    arguments = ("--fail-on-warning", "--keep-going", "-D", "nb_execution_mode=off")
    run_python("-m", "sphinx", *arguments, "-d", folder / "doctrees", DOCS, folder / "html", timeout=1800)
    return folder / "html"


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [value for key in ("href", "src") if (value := given.get(key))]
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}


def dead_links(site: Path) -> list[str]:
    """Links within the site to files or anchors that are not there."""
    pages = {file.resolve(): Page(file.read_text(encoding="utf-8")) for file in site.rglob("*.html")}
    found = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchors = pages[target].anchors if target in pages else {parts.fragment}
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                found.append(f"{file.name}: {link}")
    return sorted(set(found))


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a id="x" href="b.html#y">b</a><a href="b.html#z"><img src="c.png"><a href="#x">')
    (tmp_path / "b.html").write_text('<p id="y"></p><a href="https://elsewhere.org/#q">')
    assert dead_links(tmp_path) == ["a.html: b.html#z", "a.html: c.png"]


def test_the_site_is_whole_and_asks_no_other_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    names = {page.relative_to(site).as_posix() for page in pages}
    expected = {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md")}
    assert expected <= names
    assert "notebooks/01_drive_in_a_dream.html" in names
    assert 'class="figure-svg"' in (site / "exploitation.html").read_text(encoding="utf-8")
    assert [page.name for page in pages if _LOADED.search(page.read_text(encoding="utf-8"))] == []
    assert dead_links(site) == []


def test_pages_have_what_a_link_to_them_shows(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    for part in ('name="description"', 'property="og:image"', 'icon" href="_static/favicon.svg', "copybutton.js"):
        assert part in home
    assert 'href="glossary.html#term-latent' in (site / "temperature.html").read_text(encoding="utf-8")


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_search_finds_the_right_page_first(site: Path, driver: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    found = {}
    for word in SEARCHES:
        driver.get(f"{(site / 'search.html').as_uri()}?q={word}")
        results = WebDriverWait(driver, 60).until(
            lambda page: page.find_elements(By.CSS_SELECTOR, "#search-results ul.search li a")
        )
        found[word] = urlsplit(results[0].get_attribute("href")).path.rpartition("/")[2]
    assert found == SEARCHES


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_axe_core_finds_nothing_wrong_with_the_home_page(site: Path, driver: Any) -> None:
    for scheme in ("light", "dark"):
        assert violations_of_file(driver, site / "index.html", scheme=scheme) == []


def test_every_module_is_on_a_page_of_the_api() -> None:
    pages = extension("api_pages")
    blocks = [
        match[1].splitlines()
        for page in sorted((DOCS / "api").glob("*.md"))
        for match in re.finditer(
            r"^```\{modules\}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
    ]
    described = [name for lines in blocks for name in pages.described(lines)]
    assert sorted(described) == sorted(pages.public_modules())
    with pytest.raises(LookupError, match="neither a module nor a folder"):
        pages.described(["dreamenv.nothing"])
