from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from dreamenv.data.episodes import EpisodeStore, build_cache
from dreamenv.errors import ConfigurationError
from dreamenv.training.growing import GrowingCache
from dreamenv.types import Episode


def episode(steps: int, *, seed: int = 0, width: int = 2, terminated: bool = False, valid: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        rng.normal(size=(steps + 1, width)).astype(np.float32),
        rng.normal(size=(steps, 1)).astype(np.float32),
        rng.normal(size=steps).astype(np.float32),
        terminated,
        not terminated,
        seed,
        "test",
        steps,
        valid,
    )


def test_it_holds_what_a_cache_of_the_store_holds(tmp_path: Path) -> None:
    store, growing = EpisodeStore(tmp_path / "episodes"), GrowingCache()
    given = [episode(700, seed=1), episode(1, seed=2, terminated=True, valid=False), episode(900, seed=3)]
    early = None
    for part in given:
        store.append(part)
        growing.append(part)
        early = early or growing.cache()
    ours, stored = growing.cache(), build_cache(store, tmp_path / "cache")
    for entry in fields(stored):
        mine, theirs = getattr(ours, entry.name), getattr(stored, entry.name)
        np.testing.assert_array_equal(mine, theirs, err_msg=entry.name)
        assert mine.dtype == theirs.dtype, entry.name
    assert growing.steps == 1601
    assert early is not None
    np.testing.assert_array_equal(early.observations, given[0].observations)  # what was given out is not moved


def test_what_does_not_fit_is_refused() -> None:
    growing = GrowingCache()
    with pytest.raises(ConfigurationError, match="no episodes yet"):
        growing.cache()
    growing.append(episode(3))
    with pytest.raises(ConfigurationError, match=r"observations \(3,\) float32, those before have \(2,\) float32"):
        growing.append(episode(3, width=3))
    assert growing.cache().episodes == 1
