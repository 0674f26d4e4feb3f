"""HTML pages that need no other file: their templates, and what is put into them."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dreamenv.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# How a column is set: the class of its cells in style.css
TEXT, NUMBER, RANGE = "text", "number", "range"


@dataclass(frozen=True)
class TableRow:
    """One row of a table in a page.

    Attributes:
        cells: What stands in each column.
        kind: The row's class in style.css, "" for none.
    """

    cells: tuple[str, ...]
    kind: str = ""


def write_page(path: str | Path, template: str, **values: Any) -> Path:
    """Fill `templates/<template>.html` with `values` and write it, atomically; its folder is made.

    All values are escaped but those that a template marks as safe: figures.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = Environment(
        loader=PackageLoader("dreamenv.figures"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["zip"] = zip
    write_text(path, environment.get_template(f"{template}.html").render(**values))
    return path


def svg(figure: Figure) -> str:
    """A figure as an SVG element, to be put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    # Without the XML declaration, which has no place inside a page
    return text[text.index("<svg") :]


def data_address(file: Path, kind: str) -> str:
    """A file's content as an address, `kind` its MIME type."""
    return f"data:{kind};base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"
