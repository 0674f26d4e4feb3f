from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamenv.data.car_racing_road import UnvisitedRoad
from dreamenv.errors import ConfigurationError

GREY = 180
# Where the picture shows the car, and above it the road that is ahead
CAR_ROW = 70


@pytest.fixture(scope="module")
def car() -> Iterator[gym.Env[Any, Any]]:
    """CarRacing behind its zooming camera, rolling on a straight road."""
    env = gym.make("CarRacing-v3")
    env.reset(seed=3)
    for _ in range(90):
        env.step(np.array([0.0, 0.1, 0.0], np.float32))
    yield env
    env.close()


def drawn(car: gym.Env[Any, Any]) -> tuple[Any, Any]:
    """The picture, and which of its pixels are painted."""
    picture = car.unwrapped._render("state_pixels")  # type: ignore[attr-defined]
    seen = UnvisitedRoad(car, GREY).observation(picture)
    painted = (seen != picture).any(-1)
    assert (seen[painted] == GREY).all()
    assert np.ptp(picture[painted], axis=-1).max(initial=0) == 0, "only grey is painted"
    return picture, painted


def test_the_road_ahead_is_painted_and_the_road_behind_is_not(car: gym.Env[Any, Any]) -> None:
    picture, painted = drawn(car)
    road = (np.ptp(picture, axis=-1) == 0) & (picture[..., 0] >= 100) & (picture[..., 0] <= 105)
    ahead, behind = slice(0, CAR_ROW - 10), slice(CAR_ROW + 6, 84)
    assert road[ahead].sum() > 500
    assert painted[ahead][road[ahead]].mean() > 0.99
    assert road[behind].sum() > 50
    assert not painted[behind].any()


def test_tiles_lose_their_paint_when_they_are_visited(car: gym.Env[Any, Any]) -> None:
    tiles = car.unwrapped.road  # type: ignore[attr-defined]
    before = [np.array(tile.color) for tile in tiles]
    for tile in tiles:
        tile.color[:] = car.unwrapped.road_color  # type: ignore[attr-defined]  # what a wheel's contact does
    assert not drawn(car)[1].any()
    for tile, color in zip(tiles, before, strict=True):
        tile.color[:] = color
    assert drawn(car)[1].any()


def test_bad_input(car: gym.Env[Any, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"grey must be in \[0, 255\], got 256"):
        UnvisitedRoad(car, 256)
    with pytest.raises(ConfigurationError, match="changes uint8 pictures; the observations are"):
        UnvisitedRoad(gym.make("CartPole-v1"))
