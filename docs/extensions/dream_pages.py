"""Sphinx directives that put into a page what the registry, the bundles and the stored results say.

{dream-list}                  all shipped dreams
{dream-facts} ID              spaces, limits, observation kinds, parts
{dream-arguments} ID          keyword arguments
{model-card} ID               the bundle's model card
{gap} ID                      figures of a measured gap between dream and reality
{temperature} ID              a measured sweep of the temperature
{dreamed-and-real}            dreamed against real returns of docs/experiments.md
{curves}                      scores against real frames; a line `LABEL: ENTRY` or `LABEL: ENTRY.PART` for each curve
{command-line}                the help of every verb, group by group
{registry-reference}          the keys of registry.yaml
{examples}                    the examples, with their times
"""

from __future__ import annotations

from html import escape
from typing import Any

import dream_facts
from command_help import verbs
from curves import curves_figure, read_curve
from docutils import nodes
from dream_figures import dreamed_and_real_figure, gap_figures, gap_table, gap_verdict, temperature_figure
from example_list import examples
from registry_reference import reference
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from study_figures import study_figure, study_table, temperatures_figure

from dreamenv.figures.page import svg


class _Page(SphinxDirective):
    """A directive whose content is Markdown and figures."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        # What a page is made of may change without the page
        self.env.note_reread()
        try:
            return self.content_nodes()
        except LookupError as error:
            raise self.error(str(error)) from error

    def content_nodes(self) -> list[nodes.Node]:
        """What the directive puts into the page."""
        raise NotImplementedError

    def markdown(self, text: str) -> list[nodes.Node]:
        return self.parse_text_to_nodes(text, allow_section_headings=True)

    def figure(self, drawn: Any, text: str) -> nodes.Node:
        element = f'<div class="figure-svg" role="img" aria-label="{escape(text, quote=True)}">{svg(drawn)}</div>'
        return nodes.raw("", element, format="html")


class _OfDream(_Page):
    required_arguments = 1


class DreamList(_Page):
    def content_nodes(self) -> list[nodes.Node]:
        return self.markdown(dream_facts.dream_table())


class DreamFacts(_OfDream):
    def content_nodes(self) -> list[nodes.Node]:
        return self.markdown(dream_facts.facts(self.arguments[0]))


class DreamArguments(_OfDream):
    def content_nodes(self) -> list[nodes.Node]:
        return self.markdown(dream_facts.arguments(self.arguments[0]))


class ModelCard(_OfDream):
    def content_nodes(self) -> list[nodes.Node]:
        return self.markdown(dream_facts.model_card(self.arguments[0]))


class GapReport(_OfDream):
    def content_nodes(self) -> list[nodes.Node]:
        found = dream_facts.measurement("gap", self.arguments[0])
        shown: list[nodes.Node] = self.markdown(f"**{gap_verdict(found['gap'])}**")
        for drawn, text in gap_figures(found["gap"]):
            shown += [self.figure(drawn, text), *self.markdown(text)]
        return [*shown, *self.markdown(gap_table(found["gap"])), *self.markdown(found["note"])]


class TemperatureReport(_OfDream):
    def content_nodes(self) -> list[nodes.Node]:
        found = dream_facts.measurement("temperature", self.arguments[0])
        drawn, text = temperature_figure(found["temperature"], self.arguments[0])
        return [self.figure(drawn, text), *self.markdown(f"{text} {found['note']}")]


class Study(_Page):
    required_arguments = 1

    def content_nodes(self) -> list[nodes.Node]:
        rows = dream_facts.study_rows(self.arguments[0])
        return [
            self.figure(study_figure(rows), "Return in the dream and in reality, a line for each setting"),
            self.figure(temperatures_figure(rows), "Dreamed and real return by the temperature of training"),
            *self.markdown(study_table(rows)),
        ]


class DreamedAndReal(_Page):
    def content_nodes(self) -> list[nodes.Node]:
        experiments = (dream_facts.DOCS / "experiments.md").read_text(encoding="utf-8")
        rows = dream_facts.dreamed_and_real(experiments)
        known = {(row["dream"], round(row["dreamed"]), round(row["real"])) for row in rows}
        for row in dream_facts.published_agents():
            if (row["dream"], round(row["dreamed"]), round(row["real"])) not in known:
                rows.append(row)
        drawn, text = dreamed_and_real_figure(rows)
        return [self.figure(drawn, text), *self.markdown(text)]


class Curves(_Page):
    def content_nodes(self) -> list[nodes.Node]:
        curves = [read_curve(line) for line in self.content if line.strip()]
        labels = ", ".join(curve.label for curve in curves)
        return [self.figure(curves_figure(curves), f"Mean real return against real frames: {labels}")]


class CommandLine(_Page):
    def content_nodes(self) -> list[nodes.Node]:
        parts = []
        for group, texts in verbs().items():
            parts.append(f"## {group}")
            parts += [f"### {name}\n\n```text\n{text}\n```" for name, text in texts]
        return self.markdown("\n\n".join(parts))


class RegistryReference(_Page):
    def content_nodes(self) -> list[nodes.Node]:
        return self.markdown(reference())


class Examples(_Page):
    def content_nodes(self) -> list[nodes.Node]:
        return self.markdown(examples())


DIRECTIVES: dict[str, type[_Page]] = {
    "dream-list": DreamList,
    "dream-facts": DreamFacts,
    "dream-arguments": DreamArguments,
    "model-card": ModelCard,
    "gap": GapReport,
    "temperature": TemperatureReport,
    "study": Study,
    "dreamed-and-real": DreamedAndReal,
    "curves": Curves,
    "command-line": CommandLine,
    "registry-reference": RegistryReference,
    "examples": Examples,
}


def setup(app: Sphinx) -> dict[str, Any]:
    for name, directive in DIRECTIVES.items():
        app.add_directive(name, directive)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
