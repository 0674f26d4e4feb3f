"""Options dataclasses out of what a file or a command line holds: an unknown key or a wrong value is named."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from dreamenv.errors import ConfigurationError, did_you_mean
from dreamenv.files import parse_yaml

OptionsT = TypeVar("OptionsT")


def options_from(
    kind: type[OptionsT], found: Mapping[str, Any] | OptionsT | None = None, *, where: str = ""
) -> OptionsT:
    """The options dataclass `kind` with the values of `found`; its defaults fill the rest.

    A field that is an options dataclass itself takes a mapping too. Values have the types of the fields: a whole number
    is a float as well, a list is a tuple, and text is read where a number is wanted.

    Args:
        kind: A dataclass with type annotations.
        found: A mapping; an instance of `kind`, which is returned as it is; or None for the defaults.
        where: What the options belong to, for messages, such as `"train.options"`.

    Raises:
        ConfigurationError: An unknown key (the nearest ones are named), a value of another type, a missing one, or
            what `kind` refuses by itself.
    """
    if isinstance(found, kind):
        return found
    if found is not None and not isinstance(found, Mapping):
        raise ConfigurationError(f"{where or kind.__name__}: found {found!r}; expected options by name")
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    types = typing.get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in (found or {}).items():
        place = f"{where}.{key}" if where else str(key)
        if key not in fields:
            raise ConfigurationError(f"{place}: unknown option. {did_you_mean(str(key), fields)}")
        nested = dataclasses.is_dataclass(types[key])
        values[key] = options_from(types[key], value, where=place) if nested else _typed(types[key], value, place)
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigurationError(f"{where + '.' if where else ''}{name}: missing; {kind.__name__} has no default")
    try:
        return kind(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}" if where else str(error)) from error


def _typed(kind: Any, value: Any, place: str) -> Any:
    if kind is Any:
        return value
    adapter = TypeAdapter(kind)
    try:
        if isinstance(value, str):
            return adapter.validate_python(value)
        # JSON's strict rules are those that are wanted: lists are tuples, and true is no number.
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"{place}: found {value!r}; {error.errors()[0]['msg']}") from error
    except TypeError as error:
        raise ConfigurationError(f"{place}: found {value!r}; expected a value that JSON can hold") from error


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """`["fit_memory.steps=300", "seed=1"]` as `{"fit_memory": {"steps": 300}, "seed": 1}`; values are read as YAML.

    Raises:
        ConfigurationError: No `=`, no key, or a key that is a value and a section at once.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigurationError(f"{setting!r}: expected KEY=VALUE, such as fit_memory.steps=300")
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise ConfigurationError(f"{setting!r}: the value is not YAML: {error}") from error
        section = found
        for part in parts[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigurationError(f"{setting!r}: {part} has a value already and cannot hold options")
        section[parts[-1]] = value
    return found


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above`, section by section; both stay as they are."""
    joined = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(joined.get(key), Mapping)
        joined[key] = overlay(joined[key], value) if both else value
    return joined


def what_differs(one: Any, other: Any) -> tuple[Any, Any]:
    """Of two settings that are not alike what tells them apart: of mappings the entries that do, however deep."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return one, other
    pairs = {name: what_differs(one[name], other[name]) for name in one if name in other and one[name] != other[name]}
    kept = tuple({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
    return (
        kept[0] | {name: value for name, value in one.items() if name not in other},
        kept[1] | {name: value for name, value in other.items() if name not in one},
    )


def plain(options: Any) -> dict[str, Any]:
    """An options dataclass as nested dicts that JSON and YAML can hold; tuples become lists, and what these cannot hold
    its name (`as_name`)."""
    return plain_values(dataclasses.asdict(options))


def plain_values(found: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping as `plain` has it."""
    content: dict[str, Any] = json.loads(json.dumps(dict(found), default=_as_plain))
    return content


def _as_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return as_name(value)


def as_name(value: Any) -> str:
    """What a record says of an object that JSON cannot hold: a class or a function is named, such as
    `"torch.nn.modules.activation.ReLU"`, others tell themselves, or the name of their type."""
    if not isinstance(value, type) and not hasattr(value, "__qualname__"):
        told = repr(value)
        if " at 0x" not in told:
            return told
        value = type(value)
    return f"{value.__module__}.{value.__qualname__}"
