"""Options out of files and command lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.options import options_from, overlay, parse_settings, plain, plain_values, what_differs


@dataclass(frozen=True)
class Inner:
    steps: int = 10
    rate: float = 0.5
    name: str | None = None
    clip: tuple[float, float] | None = None
    flag: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigurationError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True)
class Outer:
    fit: Inner = field(default_factory=Inner)
    size: int = 3


@dataclass(frozen=True)
class Needy:
    size: int


def test_values_take_the_types_of_the_fields() -> None:
    found = options_from(
        Outer, {"fit": {"steps": "20", "rate": 1, "name": "a", "clip": [-1, 2.5], "flag": True}, "size": 4}
    )
    assert found == Outer(Inner(20, 1.0, "a", (-1.0, 2.5), True), 4)
    assert isinstance(found.fit.rate, float)
    assert isinstance(found.fit.clip, tuple)
    assert options_from(Inner, {"rate": "1e-3"}).rate == 1e-3
    assert options_from(Inner, {"name": None}).name is None


def test_what_is_not_given_keeps_its_default() -> None:
    assert options_from(Outer) == options_from(Outer, {}) == Outer()
    given = Outer(Inner(7))
    assert options_from(Outer, given) is given
    assert options_from(Outer, {"fit": Inner(7)}) == given


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"fit": {"step": 3}}, r"^here\.fit\.step: unknown option. Did you mean steps or"),
        ({"sise": 3}, r"^here\.sise: unknown option. Did you mean size\?$"),
        ({"fit": {"steps": "many"}}, r"^here\.fit\.steps: found 'many'; .*integer"),
        ({"fit": {"steps": 2.5}}, r"^here\.fit\.steps: found 2\.5; .*integer"),
        ({"fit": {"steps": True}}, r"^here\.fit\.steps: found True; .*integer"),
        ({"fit": {"flag": 1}}, r"^here\.fit\.flag: found 1; .*boolean"),
        ({"fit": {"clip": [1]}}, r"^here\.fit\.clip: found \[1\]; "),
        ({"fit": {"rate": {1, 2}}}, r"^here\.fit\.rate: found \{1, 2\}; expected a value that JSON can hold$"),
        ({"fit": 3}, r"^here\.fit: found 3; expected options by name$"),
        ({"fit": {"steps": 0}}, r"^here\.fit: steps must be at least 1, got 0$"),
    ],
)
def test_what_does_not_fit_is_named(found: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        options_from(Outer, found, where="here")


def test_an_option_without_a_default_must_be_given() -> None:
    assert options_from(Needy, {"size": 2}) == Needy(2)
    with pytest.raises(ConfigurationError, match=r"^size: missing; Needy has no default$"):
        options_from(Needy, {})


def test_settings_of_a_command_line() -> None:
    found = parse_settings(["fit.steps=300", "fit.clip=[-1, 2]", "size=4", "fit.name=a=b", "fit.rate=null"])
    assert found == {"fit": {"steps": 300, "clip": [-1, 2], "name": "a=b", "rate": None}, "size": 4}
    assert parse_settings(["size=1", "size=2"]) == {"size": 2}
    assert parse_settings(["rate=1e-4", "more=[3E5, -2.5e+1]", "name=e1"]) == {
        "rate": 1e-4,
        "more": [3e5, -25.0],
        "name": "e1",
    }


@pytest.mark.parametrize("setting", ["size", "=3", "fit..steps=3", "fit.=3", "size=[1"])
def test_settings_that_cannot_be_read(setting: str) -> None:
    with pytest.raises(ConfigurationError, match="expected KEY=VALUE|not YAML"):
        parse_settings([setting])


def test_a_value_is_no_section() -> None:
    with pytest.raises(ConfigurationError, match="size has a value already"):
        parse_settings(["size=1", "size.steps=2"])


def test_overlay_joins_sections_and_changes_neither() -> None:
    below, above = {"fit": {"steps": 1, "rate": 2}, "size": 3}, {"fit": {"steps": 5}, "size": 6}
    assert overlay(below, above) == {"fit": {"steps": 5, "rate": 2}, "size": 6}
    assert (below["fit"], above["fit"]) == ({"steps": 1, "rate": 2}, {"steps": 5})


def test_of_two_settings_only_what_differs_is_told() -> None:
    one = {"fit": {"steps": 1, "rate": 2}, "size": 3, "old": None, "same": {"a": 1}}
    other = {"fit": {"steps": 5, "rate": 2}, "size": 3, "new": 0, "same": {"a": 1}}
    assert what_differs(one, other) == ({"fit": {"steps": 1}, "old": None}, {"fit": {"steps": 5}, "new": 0})
    assert what_differs(3, {"steps": 1}) == (3, {"steps": 1})


def test_plain_options_make_the_same_options_again() -> None:
    options = Outer(Inner(clip=(1.0, 2.0)))
    assert plain(options)["fit"]["clip"] == [1.0, 2.0]
    assert options_from(Outer, plain(options)) == options


def test_what_json_cannot_hold_is_told_by_its_name() -> None:
    class Told:
        def __repr__(self) -> str:
            return "Told(1)"

    found = plain_values({"kinds": [dict, plain], "inner": Inner(), "other": Told(), "object": object()})
    assert found["kinds"] == ["builtins.dict", "dreamenv.options.plain"]
    assert found["inner"] == plain(Inner())
    assert (found["other"], found["object"]) == ("Told(1)", "builtins.object")
