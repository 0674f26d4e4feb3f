"""The documentation site builds without a warning, and asks no other host for anything."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import RunPython
from tests.docs.site import DOCS

_LOADED = re.compile(r"<(?:script|img|iframe|source|video)[^>]+src=\"(?:https?:)?//|<link[^>]+href=\"(?:https?:)?//")


@pytest.mark.slow
@pytest.mark.integration
def test_the_site_builds_without_warnings(run_python: RunPython, tmp_path: Path) -> None:
    """The notebooks are shown without their outputs here; test_notebooks.py runs them."""
    for module in ("sphinx", "furo", "myst_nb", "stable_baselines3"):
        pytest.importorskip(module)
    site, arguments = tmp_path / "site", ("--fail-on-warning", "--keep-going", "-D", "nb_execution_mode=off")
    run_python("-m", "sphinx", *arguments, "-d", tmp_path / "doctrees", DOCS, site, timeout=1800)
    pages = sorted(site.rglob("*.html"))
    names = {page.relative_to(site).as_posix() for page in pages}
    expected = {page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md")}
    assert expected <= names
    assert "notebooks/01_drive_in_a_dream.html" in names
    assert 'class="figure-svg"' in (site / "exploitation.html").read_text(encoding="utf-8")
    assert [page.name for page in pages if _LOADED.search(page.read_text(encoding="utf-8"))] == []
