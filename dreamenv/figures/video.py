"""Moving pictures: labelled, side by side, and written to .mp4 or .gif."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, missing_extra
from dreamenv.files import atomic

Frames = NDArray[np.uint8]

_BAR_HEIGHT = 28
_GAP = 4
_TEXT, _BACKGROUND = (235, 235, 235), (24, 24, 28)
# What is tried in turn to bring a GIF under its size: colours, and every how manieth frame is kept.
_GIF_SETTINGS = ((128, 1), (64, 1), (32, 1), (32, 2), (16, 2), (16, 3), (16, 4))


def side_by_side(
    left: Frames,
    right: Frames,
    labels: tuple[str, str] = ("dream", "reality"),
    notes: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Frames:
    """Two moving pictures beside each other under their labels; the shorter one holds its last frame.

    Args:
        left, right: `[T, H, W, 3]` uint8 of equal height.
        labels: Text above each.
        notes: Text for each frame of each, at the right end of its label's line.

    Returns:
        `[max(T), H + 28, W_left + 4 + W_right, 3]` uint8.

    Raises:
        ConfigurationError: No frames, heights that differ, or notes of another number than the frames.
        MissingExtraError: pillow is not installed.
    """
    if not len(left) or not len(right) or left.shape[1] != right.shape[1]:
        raise ConfigurationError(f"got frames of shapes {left.shape} and {right.shape}; expected some, of equal height")
    texts = ([""] * len(left), [""] * len(right)) if notes is None else notes
    return grid([(left, labels[0], texts[0]), (right, labels[1], texts[1])], columns=2)


def grid(pictures: Sequence[tuple[Frames, str, Sequence[str]]], *, columns: int | None = None) -> Frames:
    """Moving pictures in rows, each under its line of text; those that end first hold their last frame.

    Args:
        pictures: Frames `[T, H, W, 3]` uint8 of equal height (and width, with several rows), label and notes of each
            (see `titled`).
        columns: Pictures in a row; None: as near to a square as they go.

    Returns:
        `[max(T), ..., 3]` uint8.

    Raises:
        ConfigurationError: No pictures, or notes of another number than the frames.
        MissingExtraError: pillow is not installed.
    """
    if not pictures:
        raise ConfigurationError("a grid needs at least one picture")
    columns = columns or math.ceil(math.sqrt(len(pictures)))
    length = max(len(frames) for frames, _, _ in pictures)
    cells = [_hold(titled(frames, label, notes), length) for frames, label, notes in pictures]
    empty = np.full_like(cells[0], _BACKGROUND)
    rows = []
    for begin in range(0, len(cells), columns):
        row = cells[begin : begin + columns]
        row += [empty] * (columns - len(row))
        rows.append(_joined(row, axis=2))
    return _joined(rows, axis=1)


def _joined(parts: list[Frames], axis: int) -> Frames:
    """Parts beside or below each other with a gap between them."""
    shape = list(parts[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, _BACKGROUND, np.uint8)
    spaced = [part for each in parts for part in (gap, each)][1:]
    return np.concatenate(spaced, axis=axis)


def titled(frames: Frames, label: str, notes: Sequence[str]) -> Frames:
    """Frames `[T, H, W, 3]` with a line of text above: `label` on the left, the frame's note on the right.

    Raises:
        ConfigurationError: Notes of another number than the frames.
        MissingExtraError: pillow is not installed.
    """
    if len(notes) != len(frames):
        raise ConfigurationError(f"{len(notes)} notes for {len(frames)} frames of {label!r}; give one a frame")
    image, draw, font = _pillow("Image"), _pillow("ImageDraw"), _pillow("ImageFont").load_default(15)
    width = frames.shape[2]
    bars: dict[str, Frames] = {}
    for note in notes:
        if note not in bars:
            bar = image.new("RGB", (width, _BAR_HEIGHT), _BACKGROUND)
            pen = draw.Draw(bar)
            pen.text((6, 5), label, fill=_TEXT, font=font)
            pen.text((width - 6, 5), note, fill=_TEXT, font=font, anchor="ra")
            bars[note] = np.asarray(bar)
    return np.concatenate([np.stack([bars[note] for note in notes]), frames], axis=1)


def write_video(
    path: str | Path, frames: Frames, fps: float, *, largest_gif: int = 2_000_000, hold: float = 1.0
) -> Path:
    """Write frames `[T, H, W, 3]` uint8 as .mp4 (H.264) or .gif, atomically; the last frame stands `hold` seconds.

    A GIF gets fewer colours, then fewer frames, until it takes at most `largest_gif` bytes or nothing is left to give.

    Raises:
        ConfigurationError: Another suffix, or no frames.
        MissingExtraError: imageio or its ffmpeg is not installed.
    """
    path = Path(path)
    check_writer(path)
    if frames.ndim != 4 or not len(frames) or frames.shape[3] != 3 or fps <= 0:
        raise ConfigurationError(f"a video needs frames [T, H, W, 3] and fps above 0; got {frames.shape}, {fps}")
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = _hold(frames, len(frames) + round(hold * fps))
    with atomic(path) as temporary:
        if path.suffix == ".mp4":
            _write_mp4(temporary, frames, fps)
        else:
            for colours, stride in _GIF_SETTINGS:
                _write_gif(temporary, frames[::stride], fps / stride, colours)
                if temporary.stat().st_size <= largest_gif:
                    break
    return path


def check_writer(path: Path) -> None:
    """Before anything is filmed: that `write_video` can write the form that the suffix of `path` names.

    Raises:
        ConfigurationError: Another suffix than .mp4 and .gif.
        MissingExtraError: imageio, its ffmpeg or pillow is not installed.
    """
    if path.suffix not in (".mp4", ".gif"):
        raise ConfigurationError(f"{path}: {path.suffix or 'no suffix'} cannot be written; name it .mp4 or .gif")
    for module in ("PIL", "imageio", "imageio_ffmpeg") if path.suffix == ".mp4" else ("PIL",):
        if importlib.util.find_spec(module) is None:
            raise missing_extra("imageio", "train")


def fit(picture: Frames, size: int) -> Frames:
    """`picture` with its proportions kept, in the middle of a dark square of side `size`."""
    image = _pillow("Image")
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    wanted = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(image.fromarray(picture).resize(wanted, image.Resampling.LANCZOS))
    frame = np.full((size, size, 3), _BACKGROUND, np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    frame[top : top + small.shape[0], left : left + small.shape[1]] = small
    return frame


def _hold(frames: Frames, length: int) -> Frames:
    missing = length - len(frames)
    return frames if missing <= 0 else np.concatenate([frames, frames[-1:].repeat(missing, axis=0)])


def _write_mp4(path: Path, frames: Frames, fps: float) -> None:
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401  (imageio looks for it when it opens the file)
    except ImportError as error:
        raise missing_extra("imageio", "train") from error
    # H.264 with subsampled colours takes even sides only
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    options = ["-crf", "20", "-movflags", "+faststart"]
    writer = imageio.get_writer(
        path, fps=fps, codec="libx264", pixelformat="yuv420p", quality=None, macro_block_size=2, output_params=options
    )
    with writer:
        for frame in frames:
            writer.append_data(frame)


def _write_gif(path: Path, frames: Frames, fps: float, colours: int) -> None:
    image = _pillow("Image")
    # One palette for all frames, taken from a few of them: palettes of their own would flicker and cost space
    sample = np.concatenate(list(frames[np.linspace(0, len(frames) - 1, min(len(frames), 12)).astype(int)]))
    palette = image.fromarray(sample).quantize(colours)
    pictures = [image.fromarray(frame).quantize(palette=palette, dither=image.Dither.NONE) for frame in frames]
    milliseconds = round(1000 / fps)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, optimize=False)


def _pillow(module: str) -> Any:
    try:
        found: ModuleType = importlib.import_module(f"PIL.{module}")
    except ImportError as error:
        raise missing_extra("imageio", "train") from error
    return found
