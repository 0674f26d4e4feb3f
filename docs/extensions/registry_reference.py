"""The tables of registry.yaml: its keys as the schema has them, in the words of the docstrings."""

from __future__ import annotations

import inspect
import re
from typing import Any

from dream_facts import table

from dreamenv.data.explore import Exploration
from dreamenv.registry import (
    ControlSection,
    DreamSection,
    EnvironmentSection,
    ExplorationSection,
    RealSection,
    TrainSection,
)
from dreamenv.types import Control, RealEnvSpec

# Where a section is, and whose docstring describes its fields
SECTIONS: dict[str, tuple[type[Any], type]] = {
    "environments.ID": (EnvironmentSection, EnvironmentSection),
    "environments.ID.real": (RealSection, RealEnvSpec),
    "environments.ID.real.controls.KEY": (ControlSection, Control),
    "environments.ID.dream": (DreamSection, DreamSection),
    "environments.ID.explore, each": (ExplorationSection, Exploration),
    "environments.ID.train": (TrainSection, TrainSection),
}


def reference() -> str:
    """A heading and a table of keys for each section, as Markdown.

    Raises:
        LookupError: A key that no docstring describes.
    """
    parts = []
    for place, (section, documented) in SECTIONS.items():
        texts = attributes(documented)
        undescribed = sorted(set(section.model_fields) - texts.keys())
        if undescribed:
            raise LookupError(f"{documented.__name__}: its docstring describes no {', '.join(undescribed)}")
        rows = [
            [f"`{key}`", _type(section, key), _default(field), texts[key]]
            for key, field in section.model_fields.items()
        ]
        parts.append(f"## `{place}`\n\n{table(('key', 'kind', 'default', 'meaning'), rows)}")
    return "\n\n".join(parts)


def attributes(documented: type) -> dict[str, str]:
    """The texts of a class's `Attributes:` by name."""
    text = inspect.getdoc(documented) or ""
    section = re.search(r"^Attributes:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    found = {}
    for item in re.split(r"\n(?=    \S)", section[1].rstrip() if section else ""):
        names, _, words = item.strip().partition(":")
        found |= {name.strip(): re.sub(r"\s+", " ", words).strip() for name in names.split(",")}
    return found


def _type(section: type[Any], key: str) -> str:
    """The kind of a value, by the JSON schema that pydantic makes."""
    schema = section.model_json_schema()["properties"][key]
    return " or ".join(dict.fromkeys(_kind(part) for part in schema.get("anyOf", [schema])))


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "$ref" in schema or schema.get("type") == "object":
        return "mapping"
    if schema.get("type") == "array":
        return "list"
    names = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "null": "none",
    }
    return names.get(schema.get("type", ""), "any") + _bound(schema)


def _bound(schema: dict[str, Any]) -> str:
    for key, words in (("minimum", "at least"), ("exclusiveMinimum", "above")):
        if key in schema:
            return f", {words} {schema[key]:g}"
    return ""


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ({}, [], ()) or not isinstance(value, (int, float, str, bool)):
        return "none"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
