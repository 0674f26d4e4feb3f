"""What `dreamenv --help` shows: the verbs in groups, each with its whole summary, and where to begin."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

LOOK, TRAIN, MEASURE, PUBLISH = "Look", "Train", "Measure", "Publish"
GROUPS = (LOOK, TRAIN, MEASURE, PUBLISH)
# Verbs of a group in the order in which they are used; others follow by name
_ORDER = (
    "list",
    "serve",
    "play",
    "video",
    "collect",
    "train",
    "evolve",
    "train-agent",
    "loop",
    "mbpo",
    "distill",
    "demo",
)
START = "Start here: dreamenv serve DreamCarRacing-v0 --open"


class Verbs(TyperGroup):
    """The top of the command line; a verb names its group by `rich_help_panel`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All verbs, group by group."""
        return [name for names in self.grouped().values() for name in names]

    def grouped(self) -> dict[str, list[str]]:
        """The names of the verbs by the title of their group; those without a group come last."""
        groups: dict[str, list[str]] = {title: [] for title in GROUPS}
        known = {name: place for place, name in enumerate(_ORDER)}
        for name in sorted(self.commands, key=lambda name: (known.get(name, len(known)), name)):
            # Without a title, typer keeps an object of its own
            title = getattr(self.commands[name], "rich_help_panel", None)
            groups.setdefault(title if isinstance(title, str) else "Commands", []).append(name)
        return {title: names for title, names in groups.items() if names}

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The verbs under their groups; a summary is the docstring's first sentence and is wrapped, never cut."""
        for title, names in self.grouped().items():
            with formatter.section(title):
                formatter.write_dl([(name, _summary(self.commands[name])) for name in names])


def _summary(command: Any) -> str:
    return " ".join((command.help or "").partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")
