"""Registers of kinds: shipped, added, and named by an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dreamenv.errors import ConfigurationError
from dreamenv.kinds import Register


def register() -> Register[type]:
    return Register("fruit", {"path": "pathlib:Path", "gone": "pathlib:Nothing"})


def test_shipped_kinds_are_imported_when_asked_for() -> None:
    fruit = register()
    assert fruit["path"] is Path
    assert "path" in fruit
    assert "pear" not in fruit
    assert fruit.names() == ["gone", "path"]


def test_added_kinds() -> None:
    fruit = register()
    fruit.add("pear", int)
    fruit.add("pear", int)
    assert fruit["pear"] is int
    with pytest.raises(ConfigurationError, match="'pear' is <class 'int'> already"):
        fruit.add("pear", float)
    with pytest.raises(ConfigurationError, match="already"):
        fruit.add("path", float)
    with pytest.raises(ConfigurationError, match="needs a name, got ''"):
        fruit.add("", float)
    with pytest.raises(ConfigurationError, match="fruit 'paer' is not known. Did you mean pear"):
        fruit["paer"]


def test_kinds_of_installed_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "orchard-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: orchard\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dreamenv.fruit]\napple = orchard:Apple\n")
    (tmp_path / "orchard.py").write_text("class Apple:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    fruit = register()
    assert "apple" in fruit
    assert fruit.names() == ["apple", "gone", "path"]
    assert fruit["apple"].__name__ == "Apple"
    sys.modules.pop("orchard")
