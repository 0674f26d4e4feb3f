"""`dreamenv list`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreamenv import registry
from dreamenv.registry import DreamEntry
from tests.command_line import call


def test_list_tells_what_the_bundles_hold(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = next(iter(registry.entries().values()))
    here = DreamEntry("DreamHere-v0", known.section, bundle, known.source)
    away = DreamEntry("DreamAway-v0", known.section, bundle / "nowhere", known.source)
    monkeypatch.setattr(registry, "_entries", {entry.id: entry for entry in (here, away)})
    printed = call("list", "--json", "-")
    first, second = json.loads(printed.stdout)
    assert (first["id"], first["bundle_present"], first["real_frames"]) == ("DreamHere-v0", True, 1300)
    assert first["bundle_bytes"] == sum(file.stat().st_size for file in bundle.iterdir())
    assert first["score"] == {"mean": 750.4, "std": 12.0, "episodes": 100, "of": "evaluation"}
    assert (second["bundle_present"], second["score"], second["real_frames"]) == (False, None, None)
    file = bundle / "lists" / "dreams.json"
    table = call("list", "--json", file).stdout.splitlines()
    assert json.loads(file.read_text()) == [first, second]
    assert printed.stderr.splitlines() == table
    assert "750 ± 12 (evaluation, 100 episodes)" in table[1]
    assert "not there" in table[2]


@pytest.mark.parametrize("file", ["agent.safetensors", "config.json"])
def test_list_names_a_damaged_bundle_beside_the_others(
    file: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = next(iter(registry.entries().values()))
    broken = DreamEntry("DreamBroken-v0", known.section, bundle, known.source)
    monkeypatch.setattr(registry, "_entries", {"DreamBroken-v0": broken, known.id: known})
    (bundle / file).write_bytes(b"cut")
    printed = call("list", "--json", "-")
    first, second = json.loads(printed.stdout)
    assert file in first["damaged"]
    assert (second["id"], second["damaged"]) == (known.id, None)
    lines = printed.stderr.splitlines()
    assert "DreamBroken-v0" in lines[1]
    assert "damaged" in lines[1]
    assert f"damaged: {first['damaged']}" in lines
