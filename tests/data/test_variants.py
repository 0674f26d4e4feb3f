from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest
from gymnasium import spaces

from dreamenv.data.preprocess import make_real_env
from dreamenv.data.variants import Blob, Tint
from dreamenv.errors import ConfigurationError
from dreamenv.types import RealEnvSpec, Wrapper
from tests.colour_env import COLOURS, ColourEnv


class Framed(gym.ObservationWrapper[Any, Any, Any]):
    """A Dict with the picture and a number."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"screen": env.observation_space, "lives": spaces.Discrete(3)})

    def observation(self, observation: Any) -> Any:
        return {"screen": observation, "lives": 2}


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    gym.register("Colour-v0", entry_point=ColourEnv)
    yield
    del gym.registry["Colour-v0"]


def test_colours_are_multiplied() -> None:
    seen, _ = Tint(ColourEnv(), (0.5, 1.0, 2.0)).reset()
    assert seen[0, 0].tolist() == [COLOURS // 2, COLOURS, 255]
    framed, _ = Tint(Framed(ColourEnv()), (0.0, 0.0, 0.0), key="screen").reset()
    assert framed["lives"] == 2
    assert not framed["screen"].any()


def test_a_blob_is_where_it_is_told_to_be() -> None:
    env = Blob(ColourEnv(), top=0.25, left=0.5, size=0.125, colour=(1, 2, 3))
    seen, _ = env.reset()
    following = env.step(0)[0]
    for picture, around in ((seen, COLOURS), (following, COLOURS + 1)):
        assert (picture[16:24, 32:40] == (1, 2, 3)).all()
        assert (picture == around).all(2).sum() == 64 * 64 - 8 * 8


def test_a_specification_names_them() -> None:
    wrapper = Wrapper("dreamenv.data.variants:Tint", {"factors": [0.5, 0.5, 0.5]})
    env = make_real_env(RealEnvSpec("Colour-v0", wrappers=(wrapper,)))
    assert int(env.reset(seed=0)[0].max()) == COLOURS // 2
    env.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tint(ColourEnv(), (1.0, 1.0)), "expected 3 numbers"),
        (lambda: Tint(ColourEnv(), (1.0, 1.0, -0.1)), "expected 3 numbers of at least 0"),
        (lambda: Blob(ColourEnv(), size=0.0), "shares within the picture"),
        (lambda: Blob(ColourEnv(), colour=(0, 0, 256)), "3 values of 0 to 255"),
        (lambda: Blob(ColourEnv(), key="screen"), "key='screen'"),
        (lambda: Tint(Framed(ColourEnv())), "changes uint8 pictures"),
    ],
)
def test_bad_settings(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()
