"""The map of VizdoomTakeCover-v1 with other textures or another light, to see what an agent makes of a changed room.

python docs/doom_map.py --wall STONE2 --floor FLOOR4_8 --file stone.wad
dreamenv eval DreamDoom-v0 --real kwargs.doom_scenario_path=stone.wad

Textures are those of Freedoom, which ViZDoom brings along. The map, its monsters and its script stay as they are, so
that an episode of the same seed is the same game under the same actions.
"""

from __future__ import annotations

import argparse
import re
import struct
from pathlib import Path

from dreamenv.errors import missing_extra
from dreamenv.files import atomic

_HEADER, _ENTRY = struct.Struct("<4sii"), struct.Struct("<ii8s")


def changed_map(wad: bytes, fields: dict[str, str]) -> bytes:
    """The WAD `wad` whose map, as text (UDMF), has other values of `fields`, as they are written there.

    Raises:
        ValueError: No such WAD, or a field that its map does not have.
    """
    kind, count, place = _HEADER.unpack_from(wad)
    lumps = []
    for number in range(count):
        begin, size, name = _ENTRY.unpack_from(wad, place + number * _ENTRY.size)
        lumps.append((name, wad[begin : begin + size]))
    texts = [number for number, (name, _) in enumerate(lumps) if name.rstrip(b"\0") == b"TEXTMAP"]
    if kind not in (b"PWAD", b"IWAD") or len(texts) != 1:
        raise ValueError(f"{len(texts)} maps as text in a file of kind {kind!r}, expected a WAD with one")
    name, content = lumps[texts[0]]
    text = content.decode("ascii")
    for field, value in fields.items():
        text, found = re.subn(rf"^(\s*{field}\s*=\s*)[^;]*;", rf"\g<1>{value};", text, flags=re.MULTILINE)
        if not found:
            raise ValueError(f"the map has no field {field}")
    lumps[texts[0]] = (name, text.encode("ascii"))
    return _joined(kind, lumps)


def _joined(kind: bytes, lumps: list[tuple[bytes, bytes]]) -> bytes:
    begin, entries, parts = _HEADER.size, [], []
    for name, content in lumps:
        entries.append(_ENTRY.pack(begin, len(content), name))
        parts.append(content)
        begin += len(content)
    return _HEADER.pack(kind, len(lumps), begin) + b"".join(parts + entries)


def take_cover() -> bytes:
    """The scenario as ViZDoom ships it."""
    try:
        from vizdoom import scenarios_path
    except ImportError as error:
        raise missing_extra("vizdoom", "real") from error
    return (Path(scenarios_path) / "take_cover.wad").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wall", help="a texture, BRICK12 as shipped")
    parser.add_argument("--floor", help="a flat, CRATOP1 as shipped")
    parser.add_argument("--ceiling", help="a flat, CRATOP1 as shipped")
    parser.add_argument("--light", type=int, help="0 to 255, 210 as shipped")
    parser.add_argument("--file", type=Path, required=True, help="the WAD to write")
    given = parser.parse_args()
    named = {"texturemiddle": given.wall, "texturefloor": given.floor, "textureceiling": given.ceiling}
    fields = {field: f'"{texture}"' for field, texture in named.items() if texture}
    if given.light is not None:
        fields["lightlevel"] = str(given.light)
    given.file.parent.mkdir(parents=True, exist_ok=True)
    with atomic(given.file) as temporary:
        temporary.write_bytes(changed_map(take_cover(), fields))


if __name__ == "__main__":
    main()
