"""Keyword arguments of other people's code: through JSON and YAML and back the same, or refused by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dreamenv.errors import ConfigurationError, did_you_mean

# JSON has no tuples, and an environment may tell them from lists
_TUPLE = "__tuple__"


def checked_keywords(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A copy of `values` that JSON can hold; numbers of NumPy become Python's.

    Args:
        values: By name; nested lists, tuples and dicts of None, bool, int, float and str.
        where: What they belong to, for messages, such as `"Pendulum-v1: kwargs"`.

    Raises:
        ConfigurationError: Something else, such as an array, a function or a key that is no text; its place is named.
    """
    found: dict[str, Any] = _checked(dict(values), where)
    return found


def check_known(given: Mapping[str, Any], call: Callable[..., Any], *, own: Mapping[str, str], unknown: str) -> None:
    """Refuse keyword arguments that a call does not take, or that its caller gives itself.

    Args:
        given: By name.
        call: The function or class.
        own: The caller's, with what is to be said where one of them is given.
        unknown: How the message begins that names an unknown one, such as "sac takes no setting".

    Raises:
        ConfigurationError: One of the caller's, or an unknown one (the nearest are named).
    """
    takes = [word for word in inspect.signature(call).parameters if word not in own]
    for word in given:
        if word in own:
            raise ConfigurationError(own[word])
        if word not in takes:
            raise ConfigurationError(f"{unknown} {word!r}. {did_you_mean(word, takes)}")


def _checked(value: Any, place: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise ConfigurationError(f"{place} is not a number (NaN), which no file can hold so that it compares")
        return value
    if isinstance(value, list):
        return [_checked(part, f"{place}[{index}]") for index, part in enumerate(value)]
    if type(value) is tuple:
        return tuple(_checked(part, f"{place}[{index}]") for index, part in enumerate(value))
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or key == _TUPLE:
                raise ConfigurationError(f"{place} has the key {key!r}; expected names as text")
        return {key: _checked(part, f"{place}.{key}") for key, part in value.items()}
    raise ConfigurationError(
        f"{place} is {value!r} of type {type(value).__name__}, which does not survive a file or another process; "
        "expected numbers, text, lists, tuples or dicts. Make it inside the environment, or by a wrapper of your own."
    )


def keywords_to_json(value: Any) -> Any:
    """What `checked_keywords` gives, of what JSON has; a tuple becomes `{"__tuple__": [...]}`."""
    if isinstance(value, tuple):
        return {_TUPLE: [keywords_to_json(part) for part in value]}
    if isinstance(value, list):
        return [keywords_to_json(part) for part in value]
    if isinstance(value, dict):
        return {key: keywords_to_json(part) for key, part in value.items()}
    return value


def keywords_from_json(value: Any) -> Any:
    """The inverse of `keywords_to_json`."""
    if isinstance(value, Mapping):
        if value.keys() == {_TUPLE}:
            return tuple(keywords_from_json(part) for part in value[_TUPLE])
        return {key: keywords_from_json(part) for key, part in value.items()}
    if isinstance(value, list):
        return [keywords_from_json(part) for part in value]
    return value
