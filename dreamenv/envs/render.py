"""Pictures of dreams: enlarged decoded frames, bars for vector observations, and a window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dreamenv.errors import ConfigurationError, did_you_mean, missing_extra

if TYPE_CHECKING:
    from dreamenv.envs.rollout import DreamRollout

RENDER_MODES = ("rgb_array", "human")
FRAME_SIZE = 384
_WINDOW_DREAMS = 16
_CAPTION_HEIGHT = 72
_BACKGROUND, _AXIS, _BAR_UP, _BAR_DOWN = (250, 250, 250), (120, 120, 120), (31, 119, 180), (214, 39, 40)


def check_render_mode(render_mode: str | None) -> str | None:
    """`render_mode` itself.

    Raises:
        ConfigurationError: Not None, "rgb_array" or "human".
    """
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ConfigurationError(
            f"render_mode={render_mode!r} is not known. {did_you_mean(str(render_mode), RENDER_MODES)}"
        )
    return render_mode


def draw_dreams(rollout: DreamRollout, rows: NDArray[np.int64] | None = None) -> NDArray[np.uint8]:
    """Pictures `[R, 384, 384, 3]` uint8 of dreams `rows` (None: all)."""
    if rollout.world_model.vision.is_image:
        return enlarge(rollout.pictures(rows))
    latents = rollout.latents()
    return np.stack([draw_bars(latent) for latent in (latents if rows is None else latents[rows])])


def enlarge(frames: NDArray[np.uint8], size: int = FRAME_SIZE) -> NDArray[np.uint8]:
    """Frames `[R, H, W, 3]`, each pixel repeated as often as fits into `size`."""
    times = max(1, size // frames.shape[1])
    return frames.repeat(times, axis=1).repeat(times, axis=2)


def draw_bars(values: NDArray[Any], size: int = FRAME_SIZE) -> NDArray[np.uint8]:
    """A bar for each number of `values` `[D]` from the middle line, `x / (1 + |x|)` of half the picture high."""
    frame = np.full((size, size, 3), _BACKGROUND, np.uint8)
    middle = size // 2
    heights = np.round(values / (1.0 + np.abs(values)) * (middle - 4)).astype(int)
    edges = np.linspace(4, size - 4, len(values) + 1).astype(int)
    for height, left, right in zip(heights, edges[:-1], edges[1:], strict=True):
        top, bottom = (middle - height, middle) if height >= 0 else (middle, middle - height)
        frame[top:bottom, left : max(left + 1, right - 1)] = _BAR_UP if height >= 0 else _BAR_DOWN
    frame[middle - 1 : middle + 1] = _AXIS
    return frame


def tile(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames `[R, H, W, 3]` in one picture, as near to a square as they go."""
    count, height, width, _ = frames.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    padded = np.zeros((rows * columns, height, width, 3), np.uint8)
    padded[:count] = frames
    grid = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    return grid.reshape(rows * height, columns * width, 3)


def window_frame(rollout: DreamRollout) -> NDArray[np.uint8]:
    """The first dreams of a batch in one picture, for a window."""
    return tile(draw_dreams(rollout, np.arange(min(rollout.rows, _WINDOW_DREAMS))))


class Window:
    """A pygame window of a dream with its temperature, return and predicted reward below."""

    def __init__(self, title: str, frames_per_second: int) -> None:
        try:
            import pygame
        except ImportError as error:
            raise missing_extra("pygame", "real") from error
        self._pygame: Any = pygame
        self._rate = frames_per_second
        pygame.display.init()
        pygame.font.init()
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()
        self._font = pygame.font.Font(None, 22)
        self._screen: Any = None

    def show(self, frame: NDArray[np.uint8], rollout: DreamRollout) -> None:
        """Show `frame` `[H, W, 3]` uint8 and the figures of the first dream; waits to keep the frame rate."""
        pygame = self._pygame
        height, width, _ = frame.shape
        size = (width, height + _CAPTION_HEIGHT)
        if self._screen is None or self._screen.get_size() != size:
            self._screen = pygame.display.set_mode(size)
        self._screen.fill((0, 0, 0))
        self._screen.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        for line, text in enumerate(caption(rollout)):
            self._screen.blit(self._font.render(text, True, (255, 255, 255)), (8, height + 4 + 22 * line))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._rate)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


def caption(rollout: DreamRollout) -> list[str]:
    """Lines of text about the first dream of a batch."""
    return [
        f"temperature {rollout.temperature:g}   step {int(rollout.elapsed[0])}",
        f"return {rollout.returns[0]:.2f}",
        f"predicted reward {rollout.last_reward[0]:+.3f}",
    ]
