"""Schemas of our files: what does not fit is refused with file, key, what was found and what is wanted."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError

from dreamenv.errors import BundleError, DreamEnvError, did_you_mean
from dreamenv.files import read_json

_MOST_LINES = 5
SchemaT = TypeVar("SchemaT", bound=BaseModel)
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """A section of a file: unknown keys are refused, and values keep their types."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def checked(schema: type[SchemaT], found: Any, where: str | Path, error: type[DreamEnvError] = BundleError) -> SchemaT:
    """`found`, which JSON or YAML held, as `schema`, by JSON's strict rules: true is no number, "1" neither.

    Raises:
        error: It does not fit; one line for each of the first five keys, which begins with `where`.
    """
    try:
        return schema.model_validate_json(json.dumps(found), strict=True)
    except ValidationError as refused:
        found_wrong = refused.errors(include_url=False)
        lines = [_explain(schema, where, item) for item in found_wrong[:_MOST_LINES]]
        more = len(found_wrong) - len(lines)
        raise error("\n".join(lines + ([f"{where}: and {more} more"] if more else []))) from refused
    except (TypeError, ValueError, RecursionError) as refused:
        raise error(f"{where}: found what JSON cannot hold ({refused}); expected plain values") from refused


def read_checked(schema: type[SchemaT], file: Path, error: type[DreamEnvError] = BundleError) -> SchemaT:
    """The JSON file `file` as `schema`.

    Raises:
        error: It cannot be read, is not JSON, or does not fit.
    """
    return checked(schema, read_any(file, error), file, error)


def read_any(file: Path, error: type[DreamEnvError] = BundleError) -> Any:
    """What a JSON file holds, whatever it is.

    Raises:
        error: It cannot be read or is not JSON.
    """
    try:
        return read_json(file)
    except OSError as refused:
        raise error(f"{file}: cannot be read ({refused.strerror})") from refused
    except ValueError as refused:
        raise error(f"{file}: not JSON (cut short?): {refused}") from refused


def check_arguments(
    made: Callable[..., Any], found: Mapping[str, Any], where: str, error: type[DreamEnvError] = BundleError
) -> None:
    """Refuse keyword arguments that `made`, a class or function, does not take, by its own annotations.

    Raises:
        error: An unknown argument, or a value of another type.
    """
    parameters = inspect.signature(made).parameters
    open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    hints = typing.get_type_hints(made.__init__ if inspect.isclass(made) else made)
    for name, value in found.items():
        if name not in parameters and not open_ended:
            raise error(f"{where}.{name}: unknown key. {did_you_mean(name, parameters)}")
        kind = hints.get(name, Any)
        if kind is Any:
            continue
        try:
            TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
        except ValidationError as refused:
            message = refused.errors(include_url=False)[0]["msg"]
            raise error(f"{where}.{name}: found {_shown(value)}; {message}") from refused


def _explain(schema: type[BaseModel], where: str | Path, item: Any) -> str:
    place = ".".join(str(part) for part in item["loc"]) or "(top level)"
    if item["type"] == "extra_forbidden":
        known = _fields_at(schema, item["loc"][:-1])
        return f"{where}: {place}: unknown key. {did_you_mean(str(item['loc'][-1]), known)}"
    if item["type"] == "missing":
        return f"{where}: {place}: missing key; it is required"
    return f"{where}: {place}: found {_shown(item.get('input'))}; {item['msg']}"


def _shown(found: Any) -> str:
    if isinstance(found, (dict, list)):
        return type(found).__name__
    text = repr(found)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _fields_at(schema: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """The keys that `schema` knows at `location`; none where it leaves them open."""
    place: Any = schema
    for part in location:
        while get_origin(place) in (typing.Union, UnionType, Annotated):
            place = next(each for each in get_args(place) if each is not type(None))
        if get_origin(place) in (dict, list):
            place = get_args(place)[-1]
        elif part in getattr(place, "model_fields", {}):
            place = place.model_fields[str(part)].annotation
        else:  # a name that pydantic gives to one of several alternatives
            continue
    while get_origin(place) in (typing.Union, UnionType, Annotated):
        place = next(each for each in get_args(place) if each is not type(None))
    return list(getattr(place, "model_fields", {}))
