"""{modules}: the modules that a page of the API describes, so that none is forgotten when one is added.

Each line of its content is a module or a folder of the package; a folder gives its modules that no line names.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

# autodoc pretends to check types while it imports, which the libraries of the page do not bear: they come first
with suppress(ImportError):
    import_module("dreamenv.serve.server")

# Found by `dreamenv --help` and its own page; a program has no use for it
COMMAND_LINE = "dreamenv.cli"


def public_modules(package: str = "dreamenv") -> list[str]:
    """All modules of a folder of the package that hold something of their own; no name that begins with _.

    The files of the command line are left out.
    """
    folder = import_module(package)
    own = any(getattr(part, "__module__", "") == package for name, part in vars(folder).items() if name[0] != "_")
    found = [package] if own else []
    for module in pkgutil.iter_modules(folder.__path__, f"{package}."):
        if module.name.rpartition(".")[2].startswith("_") or module.name == COMMAND_LINE:
            continue
        found += public_modules(module.name) if module.ispkg else [module.name]
    return found


def described(lines: Iterable[str]) -> list[str]:
    """The modules that the lines of a page name, in their order.

    Raises:
        LookupError: A line names no module and no folder.
    """
    every = public_modules()
    named = [line.strip() for line in lines if line.strip()]
    found: list[str] = []
    for name in named:
        here = [module for module in every if module == name or module.startswith(f"{name}.")]
        if not here:
            raise LookupError(f"{name} is neither a module nor a folder of dreamenv")
        found += [module for module in here if module not in found and (module == name or module not in named)]
    return found


class Modules(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()
        try:
            names = described(self.content)
        except LookupError as error:
            raise self.error(str(error)) from error
        parts = (f"## {name}\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```" for name in names)
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("modules", Modules)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
