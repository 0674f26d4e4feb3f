"""Damaged files: changed as whole programs would change them (sums made anew), or as disks do (sums left alone)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from dreamenv.bundle import seal_bundle
from dreamenv.bundle_config import sealed_config
from dreamenv.tensor_files import packed, read_header, read_whole, tensors_of, write_sealed


def edit_config(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change config.json; its own sum is made anew."""
    file = bundle / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    del config["sha256"]
    change(config)
    file.write_text(json.dumps(sealed_config(config)), encoding="utf-8")


def edit_tensors(bundle: Path, name: str, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """Change the tensors of a bundle's file; the sums in config.json are made anew."""
    tensors = tensors_of(read_whole(bundle / name), bundle / name)
    change(tensors)
    (bundle / name).write_bytes(packed(tensors, {}))
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    seal_bundle(bundle, {key: value for key, value in config.items() if key not in ("files", "sha256")})


def edit_sealed(
    file: Path,
    *,
    tensors: Callable[[dict[str, Tensor]], Any] = lambda tensors: None,
    metadata: Callable[[dict[str, str]], Any] = lambda metadata: None,
) -> None:
    """Change an agent or a checkpoint; its own sum is made anew."""
    texts = {name: text for name, text in read_header(file).metadata.items() if name != "sha256"}
    found = tensors_of(read_whole(file), file)
    tensors(found)
    metadata(texts)
    write_sealed(file, found, texts)


def flip(file: Path, byte: int, bit: int = 6) -> None:
    """Flip one bit."""
    data = bytearray(file.read_bytes())
    data[byte] ^= 1 << bit
    file.write_bytes(data)
