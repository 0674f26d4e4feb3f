"""The documentation site builds without a warning, and asks no other host for anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.accessibility import violations_of_file
from tests.conftest import RunPython
from tests.docs.site import DOCS
from tests.serve import browser

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.xdist_group("site")]

_LOADED = re.compile(r"<(?:script|img|iframe|source|video)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//")


@pytest.fixture(scope="module")
def site(run_python: RunPython, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning; the notebooks without their outputs, since test_notebooks.py runs them."""
    for module in ("sphinx", "furo", "myst_nb", "stable_baselines3"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("documentation")
    arguments = ("--fail-on-warning", "--keep-going", "-D", "nb_execution_mode=off")
    run_python("-m", "sphinx", *arguments, "-d", folder / "doctrees", DOCS, folder / "site", timeout=1800)
    return folder / "site"


def test_the_site_is_whole_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    names = {page.relative_to(site).as_posix() for page in pages}
    expected = {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md")}
    assert expected <= names
    assert "notebooks/01_drive_in_a_dream.html" in names
    assert 'class="figure-svg"' in (site / "exploitation.html").read_text(encoding="utf-8")
    assert [page.name for page in pages if _LOADED.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
def test_axe_core_finds_nothing_wrong_with_the_home_page(site: Path, driver: Any) -> None:
    for scheme in ("light", "dark"):
        assert violations_of_file(driver, site / "index.html", scheme=scheme) == []
