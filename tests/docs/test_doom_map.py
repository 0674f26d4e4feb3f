"""docs/doom_map.py changes what a map looks like and nothing else."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dreamenv.data.preprocess import make_raw_env
from dreamenv.registry import find
from tests.docs.site import docs_script


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("doom_map")


def wad(*lumps: tuple[bytes, bytes]) -> bytes:
    begin, entries = 12, b""
    for name, content in lumps:
        entries += struct.pack("<ii8s", begin, len(content), name)
        begin += len(content)
    return struct.pack("<4sii", b"PWAD", len(lumps), begin) + b"".join(content for _, content in lumps) + entries


MAP = (b"MAP01", b""), (b"TEXTMAP", b'sector\n{\ntexturefloor = "OLD";\nlightlevel=210;\n}\n'), (b"BEHAVIOR", b"\0\1\2")


def test_only_the_named_fields_change(script: ModuleType) -> None:
    assert script.changed_map(wad(*MAP), {}) == wad(*MAP)
    text = b'sector\n{\ntexturefloor = "LONGER";\nlightlevel=9;\n}\n'
    found = script.changed_map(wad(*MAP), {"texturefloor": '"LONGER"', "lightlevel": "9"})
    assert found == wad(MAP[0], (b"TEXTMAP", text), MAP[2])


def test_other_files_and_fields_are_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="0 maps as text"):
        script.changed_map(wad(MAP[0], MAP[2]), {})
    with pytest.raises(ValueError, match="no field texturewall"):
        script.changed_map(wad(*MAP), {"texturewall": '"STONE2"'})


@pytest.mark.integration
def test_the_game_is_the_same_and_looks_otherwise(script: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("vizdoom")
    file = tmp_path / "stone.wad"
    file.write_bytes(script.changed_map(script.take_cover(), {"texturemiddle": '"STONE2"'}))
    real = find("DreamDoom-v0").section.real.spec()
    seen: list[Any] = []
    for spec in (real, replace(real, kwargs={"doom_scenario_path": str(file)})):
        env = make_raw_env(spec)
        env.reset(seed=3)
        for step in range(12):
            observation, _, _, _, _ = env.step(step // 4 % 3)
        seen.append(observation["screen"].astype(int))
        env.close()
    changed = (seen[0] != seen[1]).any(-1)
    # The walls are a band in the middle; floor and ceiling stay
    assert changed.mean() > 0.05
    assert np.flatnonzero(changed.any(1)).min() > 60
    assert np.flatnonzero(changed.any(1)).max() < 200
