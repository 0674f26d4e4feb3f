from __future__ import annotations

from typing import Any

import numpy as np

from dreamenv.vision.small_things import SmallThings

ORANGE = (250, 150, 40)


def pictures(count: int = 40) -> Any:
    """Grey walls; on every second a fireball of three pixels, and on every tenth a large one of 20."""
    found = np.full((count, 64, 64, 3), 90, np.uint8)
    for index in range(0, count, 2):
        found[index, 10 + index % 7, 20:23] = ORANGE
    for index in range(0, count, 10):
        found[index, 40:44, 40:45] = ORANGE
    return found


def decoded(of: Any) -> Any:
    return of.astype(np.float32) / 255


def test_what_is_drawn_is_counted() -> None:
    real = pictures()
    things = SmallThings(real)
    assert things.count(real, decoded(real)) == (20, 20)
    without = np.full_like(real, 90)
    assert things.count(real, decoded(without)) == (0, 20)
    half = real.copy()
    half[:20] = 90
    assert things.count(real, decoded(half)) == (10, 20)
    assert things.count(without, decoded(without)) == (0, 0)


def test_faint_and_displaced_things_are_not_drawn() -> None:
    real = pictures()
    things = SmallThings(real)
    faint = (0.7 * np.full_like(real, 90) + 0.3 * real).astype(np.uint8)
    assert things.count(real, decoded(faint)) == (0, 20)
    clear = (0.3 * np.full_like(real, 90) + 0.7 * real).astype(np.uint8)
    assert things.count(real, decoded(clear)) == (20, 20)
    assert things.count(real, decoded(np.roll(real, 8, axis=2))) == (0, 20)


def test_colours_that_were_not_there_before_are_rare() -> None:
    real = pictures()
    things = SmallThings(np.full_like(real, 90))
    assert things.count(real, decoded(real)) == (20, 20)
