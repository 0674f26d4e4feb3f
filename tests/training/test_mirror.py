from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from dreamenv.errors import ConfigurationError
from dreamenv.training.mirror import Mirror
from dreamenv.training.recipes.joint import RSSMOptions
from dreamenv.training.recipes.rssm import RSSMRecipe, Sight
from dreamenv.training.replay import Replay
from tests.training.recipes.test_rssm import FROZEN, job, options
from tests.training.synthetic import rotation, squares

CAR = spaces.Box(np.array([-1.0, 0.0, 0.0], np.float32), np.ones(3, np.float32))


def test_left_and_right_are_exchanged() -> None:
    mirror = Mirror((-1.0, 1.0, 1.0), CAR)
    np.testing.assert_array_equal(mirror.actions(np.float32([[[0.5, 0.2, 0.1]]])), np.float32([[[-0.5, 0.2, 0.1]]]))
    pictures = np.random.default_rng(0).integers(0, 255, (2, 4, 6, 3), np.uint8)
    np.testing.assert_array_equal(mirror.pictures(pictures)[:, :, 0], pictures[:, :, 5])
    np.testing.assert_array_equal(mirror.pictures(mirror.pictures(pictures)), pictures)
    keys = Mirror((1, 3, 2), spaces.Discrete(3, start=1))
    assert keys.actions(np.array([1, 2, 3, 2])).tolist() == [1, 3, 2, 3]


@pytest.mark.parametrize(
    ("actions", "space", "message"),
    [
        ((-1.0, 1.0), CAR, "1 or -1 for each dimension"),
        ((-1.0, 0.5, 1.0), CAR, "1 or -1 for each dimension"),
        ((-1.0, -1.0, 1.0), CAR, "bounds that are alike on both sides"),
        ((1, 0), spaces.Discrete(3), r"what each of the actions \[0, 1, 2\] becomes"),
        ((1, 2, 0), spaces.Discrete(3), "mirrored twice"),
    ],
)
def test_what_is_no_mirror(actions: Any, space: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Mirror(actions, space)


def test_every_second_window_is_seen_in_it() -> None:
    cache = squares(episodes=4)
    mirror = Mirror((1, 0), spaces.Discrete(2))
    plain = Replay(cache, np.arange(4), length=5)
    begin = np.arange(20)
    real = plain.windows(begin)
    turned = Replay(cache, np.arange(4), length=5, mirror=mirror).windows(begin, begin % 2 == 1)
    for row in range(20):
        seen, acted = real.observations[row], real.actions[row]
        if row % 2:
            seen, acted = seen.flip(2), 1 - acted
        torch.testing.assert_close(turned.observations[row], seen)
        assert torch.equal(turned.actions[row], acted)
    for name in ("first", "rewards", "terminated", "seen"):
        assert torch.equal(getattr(turned, name), getattr(real, name)), name
    many = Replay(cache, np.arange(4), length=5, mirror=mirror).draw(400, np.random.default_rng(0))
    same = plain.draw(400, np.random.default_rng(0))
    share = (many.observations != same.observations).flatten(1).any(1).float().mean()
    assert 0.4 < float(share) < 0.6
    np.testing.assert_array_equal(cache.observations, squares(episodes=4).observations)  # they stay as they are


def test_a_frozen_v_encodes_the_mirrored_pictures(tmp_path: Path) -> None:
    cache = squares()
    wanted: RSSMOptions = options(**FROZEN, fit={"sequence_length": 6, "batch_size": 2}, mirror=(1, 0))
    sight = Sight.of(job(cache, tmp_path, wanted))
    turned = sight.mirrored(cache)
    assert turned is not None
    assert sight.frozen is not None
    with torch.no_grad():
        expected = sight.frozen.encode(torch.from_numpy(cache.observations[:12, :, ::-1].copy()))
    np.testing.assert_allclose(turned[:12], expected.numpy(), atol=1e-5)
    scalars, _ = RSSMRecipe().continual(job(cache, tmp_path, wanted)).update(0)
    assert np.isfinite(scalars["loss"])
    with pytest.raises(ConfigurationError, match="mirror and network.frozen are for pictures"):
        RSSMRecipe().fit(job(rotation(episodes=3, steps=8), tmp_path / "vectors", options(mirror=(-1.0,))))
