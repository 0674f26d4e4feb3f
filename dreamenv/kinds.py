"""Registers of kinds: memories, visions, recipes, agents. What a foreign package adds is a kind like any other."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from dreamenv.errors import ConfigurationError, did_you_mean

KindT = TypeVar("KindT")


_ALL: weakref.WeakSet[Register[Any]] = weakref.WeakSet()
_ADOPTED: dict[str, dict[str, Any]] = {}


def added_kinds() -> dict[str, dict[str, Any]]:
    """What was added to all registers of this process, by what is registered and by kind."""
    return {register.what: dict(register._added) for register in _ALL if register._added}


def adopt_kinds(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what `added_kinds` gave in another process, to registers that are yet to be made too."""
    for what, kinds in found.items():
        _ADOPTED.setdefault(what, {}).update(kinds)
    for register in _ALL:
        register._added.update(_ADOPTED.get(register.what, {}))


class Register(Generic[KindT]):
    """Kinds by name: those of this package, those of installed packages' entry points, and those added since.

    Args:
        what: What is registered, for messages, such as "memory".
        shipped: `"module:name"` of each kind of this package, imported when it is asked for.
        base: What every kind that is added inherits from, where they are classes; None asks nothing.

    Attributes:
        group: The entry-point group in which a package names its kinds, `dreamenv.<what>`.
    """

    def __init__(self, what: str, shipped: Mapping[str, str], base: type | None = None) -> None:
        self.what = what
        self._base = base
        self.group = f"dreamenv.{what}"
        self._shipped = dict(shipped)
        self._added: dict[str, KindT] = dict(_ADOPTED.get(what, {}))
        _ALL.add(self)

    def add(self, kind: str, value: KindT) -> None:
        """Make `value` known as `kind`; the same value may be added again.

        Raises:
            ConfigurationError: An empty name, a name that something else has already, or no class of this kind.
        """
        if not isinstance(kind, str) or not kind:
            raise ConfigurationError(f"a kind of {self.what} needs a name, got {kind!r}")
        if self._base is not None and not (isinstance(value, type) and issubclass(value, self._base)):
            raise ConfigurationError(
                f"{self.what} {kind!r}: expected a class that inherits from {self._base.__name__}, got {value!r}"
            )
        if kind in self and self[kind] is not value:
            raise ConfigurationError(f"{self.what} {kind!r} is {self[kind]!r} already; take another name")
        self._added[kind] = value

    @contextmanager
    def meanwhile(self, kind: str, value: KindT) -> Iterator[None]:
        """Within it `kind` is `value`, whatever it is before and after."""
        before = dict(self._added)
        self._added[kind] = value
        try:
            yield
        finally:
            self._added = before

    def names(self) -> list[str]:
        """All known kinds, sorted."""
        return sorted({*self._shipped, *self._added, *(entry.name for entry in entry_points(group=self.group))})

    def __contains__(self, kind: object) -> bool:
        return kind in self._added or kind in self._shipped or bool(entry_points(group=self.group, name=str(kind)))

    def __getitem__(self, kind: str) -> KindT:
        """What is known as `kind`.

        Raises:
            ConfigurationError: Nothing is; the nearest names are given.
        """
        if kind in self._added:
            return self._added[kind]
        if kind in self._shipped:
            module, name = self._shipped[kind].split(":")
            return cast(KindT, getattr(importlib.import_module(module), name))
        for entry in entry_points(group=self.group, name=str(kind)):
            return cast(KindT, entry.load())
        raise ConfigurationError(f"{self.what} {kind!r} is not known. {self.known(kind)}")

    def known(self, kind: object) -> str:
        """For messages about an unknown `kind`: which are near, and where others come from."""
        return f"{did_you_mean(str(kind), self.names())} Of another package? Install it, or import what registers it."
