"""The first use of a word of the glossary on a page leads to the glossary.

Headings, code, links, figures and tables of numbers stay as they are, and so do the glossary and the API pages.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.addnodes import glossary, pending_xref
from sphinx.transforms import SphinxTransform

GLOSSARY = "glossary"
# Words that are linked, each with the term of the glossary that it means. Capital letters count, so that M and C alone
# are left to the eye.
WORDS: dict[str, str] = {
    "vision model": "vision model",
    "memory model": "memory model",
    "controller": "controller",
    "world model": "world model",
    "latent twin": "latent twin",
    "twin": "latent twin",
    "VAE": "VAE",
    "MDN-RNN": "MDN-RNN",
    "RSSM": "RSSM",
    "planners?": "planner",
    "bundles?": "bundle",
    "recipes?": "recipe",
    "registry": "registry",
    "embeddings?": "embedding",
    "latents?": "latent",
    "hidden state": "hidden state",
    "features": "features",
    "mixture": "mixture",
    "components?": "mixture",
    "temperature": "temperature",
    "start states?": "start state",
    "real frames?": "real frame",
    "action repeat": "action repeat",
    "returns?": "return",
    "terminat(?:ed|ion)": "terminated",
    "truncat(?:ed|ion)": "truncated",
    "teacher forcing": "teacher forcing",
    "rollouts?": "rollout",
    "horizon": "horizon",
    "population": "population",
    "generations?": "generation",
    "branch(?:es)?": "branch length",
    "ensemble": "ensemble member",
    "disagreement": "disagreement",
    "validation seeds": "validation seeds",
    "evaluation seeds": "evaluation seeds",
    "exploitation": "exploitation",
    "open[- ]loop": "open loop",
    "R²": "R²",
}
_PATTERN = re.compile(r"(?<![\w-])(?:" + "|".join(f"({word})" for word in WORDS) + r")(?![\w-])")
_TERMS = list(WORDS.values())
_KEPT = (nodes.title, nodes.literal, nodes.reference, nodes.literal_block, nodes.raw, nodes.caption, pending_xref)


class GlossaryLinks(SphinxTransform):
    """Puts the links into one page after it was read."""

    default_priority = 800

    def apply(self, **_: Any) -> None:
        name = self.env.docname
        if name == GLOSSARY or name.startswith("api/") or any(self.document.findall(glossary)):
            return
        linked: set[str] = set()
        for text in list(self.document.findall(nodes.Text)):
            if not _is_kept(text):
                link_first_uses(text, linked, name)


def link_first_uses(text: nodes.Text, linked: set[str], docname: str) -> None:
    """Link the words of `text` that are not in `linked` yet; a term is linked once."""
    parts: list[nodes.Node] = []
    begin = 0
    shown = text.astext()
    for match in _PATTERN.finditer(shown):
        assert match.lastindex is not None
        term = _TERMS[match.lastindex - 1]
        if term in linked:
            continue
        linked.add(term)
        parts += [nodes.Text(shown[begin : match.start()]), _link(match[0], term, docname)]
        begin = match.end()
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(shown[begin:])])


def _link(shown: str, term: str, docname: str) -> pending_xref:
    link = pending_xref(
        "", refdomain="std", reftype="term", reftarget=term, refexplicit=True, refwarn=True, refdoc=docname
    )
    link += nodes.inline("", shown, classes=["glossary-link"])
    return link


def _is_kept(text: nodes.Text) -> bool:
    node = text.parent
    while node is not None:
        if isinstance(node, _KEPT):
            return True
        node = node.parent
    return False


def setup(app: Any) -> dict[str, Any]:
    app.add_transform(GlossaryLinks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
