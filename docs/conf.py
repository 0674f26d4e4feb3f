"""Settings of the documentation site; `make docs` builds it into build/docs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import dreamenv

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "extensions"))

project = "dreamenv"
author = "dreamenv developers"
project_copyright = "dreamenv developers"
version = release = dreamenv.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinxext.opengraph",
    "api_pages",
    "dream_pages",
    "glossary_links",
    "heading_levels",
]
exclude_patterns = ["extensions", "pictures", "static"]

# Every reference within the project must be found. Names of other packages are not: their inventories lie on foreign
# hosts, and the build asks no host for anything. Type variables are no place to go to.
nitpicky = True
# A word in backticks of a docstring can be an attribute of several classes; it is no link then
suppress_warnings = ["ref.python"]
nitpick_ignore_regex = [(r"py:.*", r"(?!dreamenv\.).*"), (r"py:.*", r"dreamenv\..*T")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Stored pictures are shown; a notebook without any is run
nb_execution_mode = "auto"
nb_execution_timeout = 3600
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings write code in single backticks.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Kinds", "params_style")]
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autosummary_generate = False
add_module_names = False

html_theme = "furo"
html_title = f"dreamenv {version}"
html_static_path = ["static"]
html_css_files = ["style.css"]
html_favicon = "static/favicon.svg"
# No address of the repository is known, so there is nothing to edit
html_theme_options = {"top_of_page_buttons": []}

# Where the site will be is set where it is published; pictures for sharing need a whole address
ogp_site_url = os.environ.get("DREAMENV_SITE", "")
ogp_site_name = "dreamenv"
ogp_image = "_static/social.png"
ogp_image_alt = "The same agent in its dream and in the real CarRacing"
ogp_social_cards = {"enable": False}
ogp_enable_meta_description = True
ogp_description_length = 180

# A copied block has no prompts
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
html_copy_source = False
html_show_sourcelink = False


def skip_field_aliases(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the aliases of a NamedTuple's fields; the class's own docstring says more."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def prepare_docstring(app: Any, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Drop what torch writes into every module, mark where code ends, and keep bars such as those of |x|.

    Docstrings may go on behind code (`Episode`s), and may use bars, which reStructuredText takes for substitutions; it
    wants a mark in both places.
    """
    own = [line for line in lines if not line.startswith("Initialize internal Module state")]
    lines[:] = [re.sub(r"(?<!`)(`[^`\n]+`)(?=\w)", r"\1\\ ", _with_bars(line)) for line in own]


def _with_bars(line: str) -> str:
    """A line whose bars outside code are bars."""
    parts = line.split("`")
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return "`".join(parts)


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip_field_aliases)
    app.connect("autodoc-process-docstring", prepare_docstring)
