"""How inputs are damaged: as disks and cables do it (bytes), and as hands and programs do it (values)."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 10**6, 10**9, 2**63, 10**400, -0.0, 0.5, 1e308, float("nan"), float("inf"),
    "", "x", "0", "mdn_rnn", "../..", "a" * 5000, "\u0000", "\ud800", [], [None], [[]], [1, 2], {},
    {"kind": "x"}, {"": 0},
)  # fmt: skip


def damaged_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """`content` with flipped bits, a hole, a cut, a doubled or a foreign part; at least one byte differs."""
    while True:
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 4))):
            _DAMAGES[int(rng.integers(len(_DAMAGES)))](data, rng)
        if bytes(data) != content:
            return bytes(data)


def damaged_value(found: Any, rng: np.random.Generator) -> Any:
    """A copy of a JSON value with one to three places changed: another value, a lost key, a new one, a renamed one."""
    found = copy.deepcopy(found)
    for _ in range(int(rng.integers(1, 4))):
        holder, key = _some_place(found, rng)
        if holder is None:
            return _odd(rng)
        change = int(rng.integers(5))
        if change <= 2:
            holder[key] = _odd(rng)
        elif change == 3:
            del holder[key]
        elif isinstance(holder, dict):
            holder[f"{key}{int(rng.integers(9))}"] = holder.pop(key) if rng.integers(2) else _odd(rng)
        else:
            holder.append(_odd(rng))
    return found


def _odd(rng: np.random.Generator) -> Any:
    return copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])


def _some_place(found: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    places = []
    ahead = [found]
    while ahead:
        each = ahead.pop()
        keys = list(each) if isinstance(each, dict) else range(len(each)) if isinstance(each, list) else ()
        places += [(each, key) for key in keys]
        ahead += [each[key] for key in keys]
    return places[int(rng.integers(len(places)))] if places else (None, None)


def _place(data: bytearray, rng: np.random.Generator) -> int:
    # Headers are short, and where most can go wrong
    most = len(data) if rng.integers(2) else min(len(data), 600)
    return int(rng.integers(max(1, most)))


def _flip(data: bytearray, rng: np.random.Generator) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _overwrite(data: bytearray, rng: np.random.Generator) -> None:
    begin, length = _place(data, rng), int(rng.integers(1, 64))
    data[begin : begin + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()


def _zero(data: bytearray, rng: np.random.Generator) -> None:
    begin = _place(data, rng)
    end = min(len(data), begin + int(rng.integers(1, 4096)))
    data[begin:end] = bytes(end - begin)


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[_place(data, rng) :]


def _lose(data: bytearray, rng: np.random.Generator) -> None:
    begin = _place(data, rng)
    del data[begin : begin + int(rng.integers(1, 64))]


def _double(data: bytearray, rng: np.random.Generator) -> None:
    begin = _place(data, rng)
    data[begin:begin] = data[begin : begin + int(rng.integers(1, 512))]


def _append(data: bytearray, rng: np.random.Generator) -> None:
    data += rng.integers(0, 256, int(rng.integers(1, 64)), dtype=np.uint8).tobytes()


_DAMAGES = (_flip, _flip, _overwrite, _zero, _cut, _lose, _double, _append)
