"""Observations of any space as what V takes: pictures `[S, S, 3]` uint8, or vectors `[D]` float32."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dreamenv.data.resize import resize_area
from dreamenv.errors import ConfigurationError
from dreamenv.types import RealEnvSpec

# Kinds of NumPy types: whole numbers, and all that are numbers
_WHOLE, NUMBERS = "iu", "biuf"
# An array with fewer rows or columns holds codes of a map rather than a picture
_SMALLEST_PICTURE = 16
_MOST_ONE_HOT = 10_000
_TURN = "Turn it into an array by gymnasium.wrappers.TransformObservation"


@dataclass(frozen=True)
class Preparation:
    """What is made of a real environment's observations.

    Attributes:
        space: Of what comes out.
        is_image: Whether that are pictures.
        steps: What is made, in words.
        plain: They are vectors already, of which float32 is all that is made.
        prepare: From an observation to one of `space`; a `ConfigurationError` where its shape or type, a picture's
            range or a choice is none of the space declared. A number of a vector may leave the bounds of its Box.
    """

    space: spaces.Box
    is_image: bool
    steps: tuple[str, ...]
    plain: bool
    prepare: Callable[[Any], NDArray[Any]]


def preparation_of(source: gym.Space[Any], spec: RealEnvSpec) -> Preparation:
    """What is made of observations in `source`, by `spec`.

    A picture is a uint8 array of rows and columns, at least 16 of each, with or without channels, which come first or
    last; floating arrays of that shape with 1, 3 or 4 channels and finite bounds are pictures too, and a fourth axis is
    a stack of pictures, of which the newest is taken. Everything else is a vector: arrays of any shape are flattened,
    numbers of a Discrete or MultiDiscrete become one-hot, entries of a Dict or Tuple are joined in their order.

    Raises:
        ConfigurationError: A space that neither can be made of; the wrapper that helps is named.
    """
    chosen, select = _selected(source, spec)
    layout = _layout(chosen) if spec.observe_as != "vector" else None
    if spec.observe_as == "picture" and layout is None:
        raise ConfigurationError(f"{spec.id}: observe_as is 'picture', and {chosen} has no rows and columns. {_TURN}")
    if layout is not None and (spec.observe_as == "picture" or _looks_like_a_picture(chosen, layout)):
        assert isinstance(chosen, spaces.Box)
        return _picture(chosen, layout, select, spec)
    if spec.crop is not None or spec.channels is not None:
        raise ConfigurationError(
            f"{spec.id}: crop and channels are for pictures; {chosen} is a vector, unless observe_as is 'picture'"
        )
    return _vector(chosen, select, spec)


def _selected(source: gym.Space[Any], spec: RealEnvSpec) -> tuple[gym.Space[Any], Callable[[Any], Any]]:
    """The part of the space that `observation_key` names, and the way to it."""
    key = spec.observation_key
    if not isinstance(source, spaces.Dict):
        if key is not None:
            raise ConfigurationError(
                f"{spec.id}: observation_key is {key!r}, and its observations are no Dict: {source}"
            )
        return source, lambda observation: observation
    keys = (key,) if isinstance(key, str) else key
    has_picture = any(
        layout is not None and _looks_like_a_picture(part, layout)
        for part in source.spaces.values()
        for layout in [_layout(part)]
    )
    if keys is None and not has_picture:
        return source, lambda observation: observation
    if not keys or not set(keys) <= source.spaces.keys():
        raise ConfigurationError(
            f"{spec.id} has Dict observations; observation_key is {key!r}, expected one of {sorted(source.spaces)}"
            + ("" if has_picture else ", or a list of them")
        )
    if isinstance(key, str):
        return source[key], lambda observation: observation[key]
    names = tuple(keys)
    # A list of pairs, since a dict of spaces would be sorted
    return spaces.Dict([(name, source[name]) for name in names]), lambda observation: observation


# -- pictures


@dataclass(frozen=True)
class _Layout:
    """Where a picture's axes are: of a stack the newest picture is `[-1]`; `channels` of the axis `channel_axis`."""

    stacked: bool
    channel_axis: int | None
    rows: int
    columns: int
    channels: int


def _layout(space: gym.Space[Any]) -> _Layout | None:
    if not isinstance(space, spaces.Box) or not 2 <= len(space.shape) <= 4:
        return None
    shape, stacked = space.shape, len(space.shape) == 4
    inner = shape[1:] if stacked else shape
    if len(inner) == 2:
        return _Layout(stacked, None, inner[0], inner[1], 1)
    usual = (3, 1, 4)
    last = inner[2] in usual or (inner[0] not in usual and inner[2] <= inner[0])
    rows, columns = (inner[0], inner[1]) if last else (inner[1], inner[2])
    return _Layout(stacked, 2 if last else 0, rows, columns, inner[2] if last else inner[0])


def _looks_like_a_picture(space: gym.Space[Any], layout: _Layout) -> bool:
    if min(layout.rows, layout.columns) < _SMALLEST_PICTURE:
        return False
    if space.dtype == np.uint8:
        return True
    assert isinstance(space, spaces.Box)
    finite = bool(np.isfinite(space.low).all() and np.isfinite(space.high).all())
    return layout.channel_axis is not None and layout.channels in (1, 3, 4) and finite


def _picture(space: spaces.Box, layout: _Layout, select: Callable[[Any], Any], spec: RealEnvSpec) -> Preparation:
    _check_crop(spec, layout)
    to_bytes, scaled = _to_bytes(space, spec)
    colours, chosen = _colours(layout, spec)
    steps = [] if spec.observation_key is None else [f"entry {spec.observation_key!r}"]
    steps += ["the newest of a stack of pictures"] if layout.stacked else []
    steps += [scaled] if scaled else []
    steps += [chosen] if chosen else []
    steps += [f"crop {spec.crop}"] if spec.crop is not None else []
    size = spec.image_size
    steps.append(f"picture of {layout.rows} rows and {layout.columns} columns, resized to {size} x {size}")
    shape = space.shape

    def prepare(observation: Any) -> NDArray[Any]:
        array = _of_shape(select(observation), shape, spec)
        array = array[-1] if layout.stacked else array
        if layout.channel_axis is None:
            array = array[..., None]
        elif layout.channel_axis == 0:
            array = np.moveaxis(array, 0, -1)
        array = to_bytes(array[..., colours])
        if spec.crop is not None:
            top, bottom, left, right = spec.crop
            array = array[top:bottom, left:right]
        if array.shape[2] == 1:
            array = np.repeat(array, 3, axis=2)
        return resize_area(array, size)

    return Preparation(spaces.Box(0, 255, (size, size, 3), np.uint8), True, tuple(steps), False, prepare)


def _to_bytes(space: spaces.Box, spec: RealEnvSpec) -> tuple[Callable[[NDArray[Any]], NDArray[np.uint8]], str]:
    """What makes bytes of a picture's numbers, and in words; nothing is made of bytes."""
    low, high = float(space.low.min()), float(space.high.max())
    whole = np.dtype(space.dtype).kind in _WHOLE
    if space.dtype == np.uint8 and high > 1:
        return lambda array: _as_bytes(array, space, spec), ""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        raise ConfigurationError(
            f"{spec.id}: pictures of {space.dtype} from {low:g} to {high:g}; expected finite bounds to scale to "
            "0..255. Give them by gymnasium.wrappers.TransformObservation, or set observe_as: vector"
        )
    if whole and low >= 0 and 1 < high <= 255:
        return lambda array: _as_bytes(array, space, spec), f"{space.dtype} as uint8"
    factor = 255.0 / (high - low)
    tolerance = 1e-3 * (high - low)

    def scale(array: NDArray[Any]) -> NDArray[np.uint8]:
        if whole and array.dtype.kind == "f":
            raise _not_of_the_space(f"a picture of {array.dtype}", space, spec)
        numbers = array.astype(np.float32)
        least, most = float(numbers.min()), float(numbers.max())
        if not (low - tolerance <= least and most <= high + tolerance):
            raise ConfigurationError(
                f"{spec.id}: a picture holds numbers from {least:g} to {most:g}, its space declares {low:g} to "
                f"{high:g}. Correct observation_space"
            )
        return np.clip(np.rint((numbers - low) * factor), 0, 255).astype(np.uint8)

    return scale, f"{space.dtype} from {low:g} to {high:g} scaled to 0..255"


def _as_bytes(array: NDArray[Any], space: spaces.Box, spec: RealEnvSpec) -> NDArray[np.uint8]:
    """Whole numbers of any type as bytes."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in _WHOLE:
        raise _not_of_the_space(f"a picture of {array.dtype}", space, spec)
    least, most = int(array.min()), int(array.max())
    if not 0 <= least <= most <= 255:
        raise _not_of_the_space(f"a picture of {array.dtype} from {least} to {most}", space, spec)
    return array.astype(np.uint8)


def _not_of_the_space(got: str, space: spaces.Box, spec: RealEnvSpec) -> ConfigurationError:
    return ConfigurationError(
        f"{spec.id}: {got}, its space declares {space.dtype} from {space.low.min():g} to {space.high.max():g}. Correct "
        "observation_space, or what reset and step return"
    )


def _colours(layout: _Layout, spec: RealEnvSpec) -> tuple[list[int], str]:
    """The channels that are a picture's colours, one or three, and in words."""
    count = layout.channels
    if spec.channels is not None:
        if len(spec.channels) not in (1, 3) or not all(0 <= channel < count for channel in spec.channels):
            raise ConfigurationError(
                f"{spec.id}: channels is {spec.channels}; expected one or three of 0 to {count - 1}"
            )
        return list(spec.channels), f"channels {list(spec.channels)} of {count}"
    if count in (1, 3):
        return list(range(count)), ""
    if count == 2:
        return [0, 0, 1], "channels [0, 0, 1] of 2"
    if count == 4 and layout.channel_axis == 2:
        return [0, 1, 2], "the first three of 4 channels"
    return [count - 3, count - 2, count - 1], f"the last three of {count} channels as colours"


def _check_crop(spec: RealEnvSpec, layout: _Layout) -> None:
    if spec.crop is None:
        return
    top, bottom, left, right = spec.crop
    if not (0 <= top < bottom <= layout.rows and 0 <= left < right <= layout.columns):
        raise ConfigurationError(
            f"{spec.id}: crop {spec.crop} (top, bottom, left, right) does not lie within a frame of "
            f"{layout.rows} rows and {layout.columns} columns"
        )


# -- vectors


@dataclass(frozen=True)
class _Part:
    """A stretch of a vector: its bounds, and how it is read from an observation."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    read: Callable[[Any], NDArray[np.float32]]


def _vector(space: gym.Space[Any], select: Callable[[Any], Any], spec: RealEnvSpec) -> Preparation:
    part = _part(space, spec)
    joined = spaces.Box(part.low, part.high, dtype=np.float32)
    plain = isinstance(space, spaces.Box) and len(space.shape) == 1 and spec.observation_key is None
    steps = () if plain else (f"{space} as a vector of {len(part.low)} numbers",)
    return Preparation(joined, False, steps, plain, lambda observation: part.read(select(observation)))


def _part(space: gym.Space[Any], spec: RealEnvSpec) -> _Part:
    if isinstance(space, spaces.Box):
        shape = space.shape
        with np.errstate(over="ignore"):
            low, high = space.low.astype(np.float32).reshape(-1), space.high.astype(np.float32).reshape(-1)
        return _Part(low, high, lambda seen: _of_shape(seen, shape, spec).astype(np.float32).reshape(-1))
    if isinstance(space, spaces.MultiBinary):
        shape, count = tuple(space.shape), math.prod(space.shape)
        zeros, ones = np.zeros(count, np.float32), np.ones(count, np.float32)
        return _Part(zeros, ones, lambda seen: _bits(seen, shape, spec))
    if isinstance(space, spaces.Discrete):
        return _one_hot([int(space.n)], [int(space.start)], (), spec)
    if isinstance(space, spaces.MultiDiscrete):
        shape = tuple(space.nvec.shape)
        return _one_hot(space.nvec.ravel().tolist(), space.start.ravel().tolist(), shape, spec)
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        inner = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        parts = [(name, _part(one, spec)) for name, one in inner]
        low, high = (np.concatenate([getattr(one, end) for _, one in parts]) for end in ("low", "high"))
        return _Part(low, high, lambda seen: np.concatenate([one.read(seen[name]) for name, one in parts]))
    raise ConfigurationError(
        f"{spec.id}: observations {space} are neither pictures nor vectors. {_TURN}, or leave a Dict's entry out by "
        "gymnasium.wrappers.FilterObservation or observation_key"
    )


def _bits(seen: Any, shape: tuple[int, ...], spec: RealEnvSpec) -> NDArray[np.float32]:
    bits = _of_shape(seen, shape, spec).reshape(-1)
    if not ((bits == 0) | (bits == 1)).all():
        raise ConfigurationError(f"{spec.id}: the observation {seen} is not in the space that it declares, 0 and 1")
    return bits.astype(np.float32)


def _one_hot(counts: list[int], starts: list[int], shape: tuple[int, ...], spec: RealEnvSpec) -> _Part:
    total = sum(counts)
    if total > _MOST_ONE_HOT:
        raise ConfigurationError(
            f"{spec.id}: observations of {total} different numbers, one-hot up to {_MOST_ONE_HOT}. "
            f"{_TURN}, such as the parts that the number is made of"
        )
    firsts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)

    def read(seen: Any) -> NDArray[np.float32]:
        places = _of_shape(seen, shape, spec).reshape(-1) - np.array(starts)
        if not ((places >= 0) & (places < np.array(counts)) & (places == np.rint(places))).all():
            raise ConfigurationError(f"{spec.id}: the observation {seen} is not in the space that it declares")
        vector = np.zeros(total, np.float32)
        vector[firsts + places.astype(np.int64)] = 1.0
        return vector

    return _Part(np.zeros(total, np.float32), np.ones(total, np.float32), read)


def _of_shape(observation: Any, shape: tuple[int, ...], spec: RealEnvSpec) -> NDArray[Any]:
    array = np.asarray(observation)
    if array.shape != shape:
        raise ConfigurationError(
            f"{spec.id}: an observation of shape {array.shape}, its space declares {shape}. Correct observation_space, "
            "or what reset and step return"
        )
    if array.dtype.kind not in NUMBERS:
        raise ConfigurationError(
            f"{spec.id}: an observation of type {array.dtype}, expected numbers. Correct what reset and step return"
        )
    return array
