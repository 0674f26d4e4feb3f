"""The captions of the site's navigation are headings of a level.

Sphinx calls them headings and gives none, so that screen readers do not know where they belong.
"""

from __future__ import annotations

from typing import Any

_HEADING = 'role="heading"'


def with_levels(navigation: str) -> str:
    """Navigation whose captions are headings of the second level, below the page's title."""
    return navigation.replace(_HEADING, f'{_HEADING} aria-level="2"')


def _add_levels(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "furo_navigation_tree" in context:
        context["furo_navigation_tree"] = with_levels(context["furo_navigation_tree"])


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("html-page-context", _add_levels, priority=900)  # after the theme, which makes the navigation
    return {"parallel_read_safe": True, "parallel_write_safe": True}
